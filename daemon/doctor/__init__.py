"""The checks behind `dance-ondevice doctor`."""
