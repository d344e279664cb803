"""The demo: a small shop on any of the five brokers (`hatch run demo`)."""
