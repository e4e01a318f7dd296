"""Pure decisions of the service. Import it as ``dance_ondevice.policies``: the bare name ``policies`` is
refused, so that two copies of a module never coexist.
"""

if __name__ != "dance_ondevice.policies":
    raise ImportError("import dance_ondevice.policies instead of policies")
