"""A VBoxManage that runs nothing: it keeps what it is told, and answers as the real one does.

Its messages and codes are those of VirtualBox 7.2. Run as ``fake_vboxmanage.py FOLDER WORD...``;
in FOLDER it keeps ``state.json``, and ``calls`` with a line of JSON for each call. A file
``fails`` there holds a command's name: that one is refused, with the words after it. ``passing``
has such lines, each of which refuses once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(sys.argv[1])
STATE = FOLDER / "state.json"
# The commands that name a machine first.
ON_MACHINE = {
    *("modifyvm", "setextradata", "storagectl", "storageattach", "unregistervm"),
    *("startvm", "controlvm", "showvminfo"),
}


def refuse(message: str, code: str = "NS_ERROR_FAILURE") -> NoReturn:
    print(f"VBoxManage: error: {message}", file=sys.stderr)
    print(f"VBoxManage: error: Details: code {code} (0x80004005)", file=sys.stderr)
    print('VBoxManage: error: Context: "X(y)" at line 1 of file VBoxManageZ.cpp', file=sys.stderr)
    sys.exit(1)


def options(words: list[str]) -> dict[str, str]:
    pairs = {}
    while words:
        if words[0] in ("--register", "--compact", "--machinereadable"):
            pairs[words.pop(0)] = ""
        elif words[:2] == ["--natpf1", "delete"]:
            del words[:3]
        else:
            name, value, *words = words
            rule = f" {value.partition(',')[0]}" if name == "--natpf1" else ""
            pairs[name + rule] = value
    return pairs


def createvm(machines: dict[str, Any], words: list[str]) -> None:
    given = options(words)
    folder = Path(given["--basefolder"]) / given["--name"]
    if folder.exists():
        refuse(f"Machine settings file '{folder}' already exists", "VBOX_E_FILE_ERROR")
    folder.mkdir(parents=True)
    machines[given["--uuid"]] = {**given, "VMState": "poweroff"}


def on_machine(command: str, machines: dict[str, Any], words: list[str]) -> None:
    identity, *words = words
    if identity not in machines:
        message = f"Could not find a registered machine with UUID {{{identity}}}"
        refuse(message, "VBOX_E_OBJECT_NOT_FOUND")
    machine = machines[identity]
    if machine["VMState"] == "running" and command not in ("showvminfo", "controlvm"):
        refuse("The machine is already locked for a session", "VBOX_E_INVALID_OBJECT_STATE")
    match command:
        case "showvminfo":
            print(f'name="{machine["--name"]}"\nmemory={machine.get("--memory", 0)}')
            print(f'"SATA-0-0"="{machine.get("--medium")}"\nVMState="{machine["VMState"]}"')
        case "unregistervm":
            del machines[identity]
        case "startvm":
            print(f'Waiting for VM "{identity}" to power on...')
            if (FOLDER / "no-module").exists():
                refuse(f"The virtual machine '{machine['--name']}' has terminated unexpectedly")
            machine["VMState"] = "running"
        case "controlvm":
            control(identity, machine, words[0])
        case "setextradata":
            machine[words[0]] = words[1]
        case "modifyvm" | "storageattach":
            machine.update(options(words))


def control(identity: str, machine: dict[str, str], what: str) -> None:
    if machine["VMState"] != "running":
        refuse(f"Machine '{identity}' is not currently running.")
    if what == "poweroff" or not (FOLDER / "hangs").exists():
        machine["VMState"] = "poweroff"


def main() -> None:
    command, *words = sys.argv[2:]
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps([command, *words]) + "\n")
    if (FOLDER / "no-module").exists():
        print("WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install it.\n")
    fails = FOLDER / "fails"
    if fails.exists() and fails.read_text().startswith(f"{command} "):
        refuse(fails.read_text().partition(" ")[2])
    passing = FOLDER / "passing"
    lines = passing.read_text().splitlines() if passing.exists() else []
    if lines and lines[0].startswith(f"{command} "):
        passing.write_text("".join(f"{line}\n" for line in lines[1:]))
        refuse(lines[0].partition(" ")[2])
    if (FOLDER / "interrupts").exists() and command == (FOLDER / "interrupts").read_text():
        os.kill(os.getppid(), 2)
    machines = json.loads(STATE.read_text()) if STATE.exists() else {}
    if command in ON_MACHINE:
        on_machine(command, machines, words)
    elif command == "createvm":
        createvm(machines, words)
    elif command == "modifymedium":
        used = [m for m in machines.values() if m.get("--medium") == words[1]]
        if any(machine["VMState"] == "running" for machine in used):
            refuse("Medium is locked for writing by another task", "VBOX_E_INVALID_OBJECT_STATE")
    elif command == "--version":
        print("7.2.22")
    else:
        refuse(f"Invalid command '{command}'")
    STATE.write_text(json.dumps(machines))


main()
