"""Found circuits as files that other programs read: JSON, OpenQASM 2 and 3, and a drawing."""
