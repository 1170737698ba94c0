"""`probewatch bench`: what this machine does, against the obvious way to do it, on traffic that is made for it."""
