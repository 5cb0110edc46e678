"""What an administrator asks for on the command line, one module for each kind of thing."""
