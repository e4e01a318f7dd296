"""What ``dance-ondevice bench`` measures: the top layer, which only the command line imports."""
