"""Convolutions and matrix products: a layer in the planner's terms, its forms, its codelets, its plan, its cost."""
