"""The whole house from outside: real processes, real sockets to the simulator."""
