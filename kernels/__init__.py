"""The PopART custom operator for Proxy Norm, its build and its loader."""
