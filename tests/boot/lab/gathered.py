"""What a host has gathered over the years, and a provision has to live with."""

# A copy of a kernel, a swap that is gone, a password for GRUB's menu, an sshd on one address.
GATHERED = """
cp "/boot/vmlinuz-$(uname -r)" "/boot/vmlinuz-$(uname -r).old"
echo RESUME=UUID=a2b6e0c4-0000-4000-8000-000000000000 >/etc/initramfs-tools/conf.d/resume
printf '#!/bin/sh\\necho "set superusers=admin; password admin secret"\\n' >/etc/grub.d/01_password
chmod 0755 /etc/grub.d/01_password
echo ListenAddress 10.0.2.15 >/etc/ssh/sshd_config.d/address.conf
systemctl restart ssh
systemctl unmask apt-daily.timer apt-daily-upgrade.timer
"""
