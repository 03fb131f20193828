"""``ladder``, the photo codec: its network, its codec, and its synthesis made fast.

config     its sizes
rate       its rate points, and the steps that follow from them
transform  pixels to latent and back, as they are trained
model      the network in training: the transforms, and the prior of the latent's codes
prior      the same prior by exact arithmetic, a walk through the codes
codes      where the codes of a walk come from: chosen by the encoder, read by the decoder
decoder    what of decoding does not depend on what computes it; ``vqcodec.light`` has it too
codec      pixels to sections and back
synthesis  the same function as the transform's, as files are decoded with it
winograd   a 3x3 convolution that takes fewer multiplications
"""
