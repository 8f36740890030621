"""The device, and how a kernel is compiled, chosen and launched."""
