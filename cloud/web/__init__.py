"""The live map: one page, pushed; read only."""
