"""The control socket: server, handlers, client, and the status report."""
