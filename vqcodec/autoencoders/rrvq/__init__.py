"""RRVQ-VAE: a deep ladder of discrete latents with a prior of its own ("Relaxed-Responsibility
Hierarchical Discrete VAEs", Eqs. 3 to 7 and appendix C).

    p(x, z) = p(x | z) prod_l p(z_l | z_>l)        q(z | x) = prod_l q(z_l | z_>l, x)

A bottom-up network reads the picture, and a top-down network, the backbone, writes it, layer after
layer from z_L on one grid cell to z_1 on the finest grid. At each layer the backbone d says what it
expects, the embedding e_p; together with the bottom-up network it says what is there, e_q; both are
turned into probabilities of codes by the same codebook (see ``quantizers.responsibility``), and the
vector of the code is added to the backbone:

    e_p = pstrap(d)    e_q = qladder(d_bar) + qstrap(d)    z ~ pi(e_q)    d <- d + pladder(z)

What is minimized is -ELBO in bits per dimension (Eq. 5), of a discretized logistic likelihood with
one learned scale, with free bits. A file pays -log2 p(z_l | z_>l), so p has to be the same on every
machine: ``ExactTopDown`` evaluates the backbone and e_p in fixed point.

The paper's quantizer is ``responsibility``. With another, by name, q is all on one code: the rate
is its -log2 p, where p are the responsibilities of the quantizer's codewords for e_p as before, and
the quantizer brings a loss of its own.

networks  its sizes, both networks and their codebooks
exact     the prior's half of them by exact arithmetic
model     all of it as a system
"""

from vqcodec.autoencoders.rrvq.model import RRVQ
from vqcodec.autoencoders.rrvq.networks import RRVQConfig

__all__ = ["RRVQ", "RRVQConfig"]
