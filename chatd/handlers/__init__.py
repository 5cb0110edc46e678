"""The HTTP and WebSocket handlers, one module for each kind of thing, one ROUTES list each."""
