"""Access control: CURVE keys on the disk, the sockets that use them, and the ZAP authenticator."""
