"""The machine: devices, memory, threads, bands of rows."""
