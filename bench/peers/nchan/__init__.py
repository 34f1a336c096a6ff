"""nchan: an nginx module that is the server; what publishes sends it requests by HTTP."""
