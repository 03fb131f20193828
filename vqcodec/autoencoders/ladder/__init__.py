"""``ladder``, the photo codec: its network, its codec, and its synthesis made fast.

model      the network in training, and its sizes
codec      pixels to sections and back, by exact arithmetic
synthesis  the same function as the model's, as files are decoded with it
winograd   a 3x3 convolution that takes fewer multiplications
"""
