"""Imported as ``dance_ondevice.policies``; the bare name is refused so that two copies never coexist."""

if __name__ != "dance_ondevice.policies":
    raise ImportError("import dance_ondevice.policies instead of policies")
