"""The cloud: IoT rules, handlers, stores, the one-machine mode and the live map."""
