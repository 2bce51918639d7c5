"""What a compiled model tells about itself: PopART's view of it, the compile log, anchored tensors, costs."""
