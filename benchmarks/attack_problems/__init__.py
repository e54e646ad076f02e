"""The three published experiments of directional attacks, rebuilt without downloads.

Bouchet and Vidal, Optimization by directional attacks (2025), optimise through trained networks:
a two-variable reactor, the mixing of images, the latent of a map. Their networks and data are not
ours, so each is made anew: problems, data and networks come from formulas and seeds in this
folder. Figures can be compared between methods, not with the paper's.

`CASES` maps a name to a function of a variant (another chemistry, other images, another map; other
networks each), which gives a composite `optimizers.Problem`. What is tuned on these problems is
tuned on small variants; the variants `HELD_OUT` are for final figures alone.
"""

from attack_problems import biodiesel, maps, mixing

CASES = {
    "bio-diesel": biodiesel.problem,
    "bio-diesel, certified": lambda variant=0: biodiesel.problem(variant, certified=True),
    "image mixing": mixing.problem,
    "maps": maps.problem,
}
HELD_OUT = (11, 12, 13)
