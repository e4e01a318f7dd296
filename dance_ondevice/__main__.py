"""``python -m dance_ondevice``: the command line."""

from dance_ondevice.daemon.cli import main

if __name__ == "__main__":
    main()
