"""The whole cloud on one machine: broker, rules, stream, functions, map."""
