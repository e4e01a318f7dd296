"""Imported as ``dance_ondevice.daemon``; the bare name is refused so that two copies never coexist."""

if __name__ != "dance_ondevice.daemon":
    raise ImportError("import dance_ondevice.daemon instead of daemon")
