"""The `longhaul` command: a file for each command or group of commands."""
