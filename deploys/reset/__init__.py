"""What makes a root that is thrown away at boot: its volumes, its boot, its way back."""
