"""plait: one network for the containers of many hosts, on Weave Net's wire protocols."""

__version__ = "0.1.0"
