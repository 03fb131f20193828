"""Files of the ladder decoded by numpy alone, where torch is not there or takes too long to start.

The codes are the same, and pixels to within one 8-bit step. What has no part in decoding, encoders
and the systems of the papers among it, needs torch.

weights    the tensors of a weights file, asked for by name and shape
exact      the layers of ``fixedpoint``
prior      the walk through the codes
synthesis  the latent to pixels
ladder     sections to pixels with these
"""
