"""What the paper says: every quantitative claim that one run can answer, as printed, and when ours counts as the same.

Facts and figures from Nanda et al. 2023, arXiv 2301.05217. "Not verified" marks a value that could not be confirmed in
the paper itself. Losses are those of the paper's own run; another seed has other frequencies, so each claim says what
can be compared.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrintedClaim:
    """One sentence of the paper that a number can hold or not hold."""

    where: str
    """Section, figure or table."""
    sentence: str
    printed: str
    """The paper's value; "not verified" if it could not be confirmed."""
    definition: str
    """How ours is measured."""
    holds_if: str
    """The criterion of the verdict."""
    comparable: str
    """What may be compared with another seed: a share, a ratio, an order of magnitude, which ablation hurts, ..."""


NOT_VERIFIED = "not verified"
_ALL = "all pairs, float64, logit of = dropped"

PAPER: dict[str, PrintedClaim] = {
    "Q1": PrintedClaim(
        "section 3, figure 2",
        "The network first memorises, and generalises much later.",
        "train accuracy reaches 100% fast; test accuracy about 100% after around 10,000 epochs",
        "first logged epoch with train accuracy 100%, and with test accuracy of at least 99%",
        "the second comes at least ten times later than the first",
        "order of magnitude of the delay",
    ),
    "Q2": PrintedClaim(
        "section 4.1, figure 3",
        "W_E is sparse in the Fourier basis.",
        "6 non-negligible frequencies, of which 5 are used later",
        "frequencies by the rule `embedding`, and the share of W_E's variance over numbers in them",
        "at most 10 frequencies hold at least 80% of the variance",
        "number of frequencies, share",
    ),
    "Q3": PrintedClaim(
        "section 4.1, figure 3",
        "The neuron-logit map W_L has only the key frequencies.",
        "only the 5 key frequencies (10 components)",
        "share of the variance of W_L over answers that lies in the key frequencies",
        "at least 95%",
        "share",
    ),
    "Q4": PrintedClaim(
        "section 4.1, figure 4",
        "Attention of head 0 from = to a is periodic.",
        "frequency 35 (96.5% of its variance linear in it: read off a figure)",
        "head 0's attention to a over all pairs, best single frequency, difference of waves of a and b (as in Q26)",
        "over 90% of the variance explained",
        "share",
    ),
    "Q5": PrintedClaim(
        "section 4.1, figure 4",
        "The activation of neuron 0 is periodic.",
        "frequency 42",
        "post-ReLU activation over all pairs; the block of 8 components of its best frequency",
        "over 85% of the variance explained",
        "share",
    ),
    "Q6": PrintedClaim(
        "section 4.1, figure 4",
        "In the 2-D Fourier basis the logits have 2 x 2 significant components per key frequency.",
        "20 components (5 key frequencies)",
        "components (constant left out) whose norm over answers exceeds 30% of the largest",
        "they are exactly the products of two waves of one key frequency, four for each",
        "count per key frequency",
    ),
    "Q7": PrintedClaim(
        "section 4.2, equation 2",
        "W_L is a matrix of rank about 10: cos and sin of the key frequencies.",
        "residual Frobenius norm below 0.55% of that of W_L (of norms or of squares: not said)",
        "W_L outside the cos and sin rows of the key frequencies; ratio of norms, and of squares",
        "at most 1% of the squared norm is left over",
        "share",
    ),
    "Q8": PrintedClaim(
        "section 4.2, table 1",
        "The directions that W_L reads are cos and sin of w_k(a+b).",
        "over 90% explained: 93.2 to 98.2% in ten directions",
        "neurons times each direction, over all pairs, centred; explained by a multiple of the one wave",
        "over 90% in every direction",
        "share",
    ),
    "Q9": PrintedClaim(
        "section 4.2",
        "The logits are a sum of cos w_k(a+b-c) over the key frequencies.",
        "95% of variance explained",
        "least squares over all (a, b, c), one coefficient per frequency, logits centred over (a, b) per answer",
        "at least 90%",
        "share",
    ),
    "Q10": PrintedClaim(
        "section 4.2",
        "That sum of cosines has a lower loss than the logits themselves.",
        "2.4e-7 -> 4.7e-8",
        f"the fit of Q9 instead of the logits; {_ALL}",
        "the loss falls",
        "ratio",
    ),
    "Q11": PrintedClaim(
        "section 4.3, figure 5",
        "Most neurons are explained by a single frequency.",
        "433 of 512 (84.6%) to more than 85%",
        "each neuron centred over all pairs; share of its variance in the block of its best frequency",
        "more than half of the neurons to more than 85%",
        "share",
    ),
    "Q12": PrintedClaim(
        "section 4.3",
        "The neurons fall into one cluster per key frequency.",
        "44, 93, 145, 87, 64 for frequencies 14, 35, 41, 42, 52; 79 in none (44 and 433 printed, the rest elsewhere)",
        "neurons over 85% by their best frequency",
        "every key frequency has a cluster",
        "clusters per key frequency",
    ),
    "Q13": PrintedClaim(
        "section 4.3, figure 5",
        "A cluster's neurons reach the logits through its own frequency only.",
        "for the 44 neurons of frequency 14 only cos 14 and sin 14 are not trivial",
        "share of the variance of W_L over answers in the cluster's own frequency; the smallest over clusters",
        "at least 90% in every cluster",
        "share",
    ),
    "Q14": PrintedClaim(
        "section 4.4",
        "Neurons may be replaced by polynomials of degree 2 in one frequency.",
        "loss +3%: 2.41e-7 -> 2.48e-7",
        f"neurons over 85% projected on the constant and their own block, the others unchanged; {_ALL}",
        "the loss at most doubles",
        "ratio",
    ),
    "Q15": PrintedClaim(
        "section 4.4",
        "Only cos and sin of w_k(a+b) matter.",
        "loss -77%: 5.54e-8",
        f"logits projected on the constant and the key frequencies' sum directions; {_ALL}",
        "the loss falls",
        "ratio",
    ),
    "Q16": PrintedClaim(
        "section 4.4",
        "Only the directions that W_L reads matter.",
        "loss -50%: 1.19e-7",
        f"neurons projected on the span of the read-off directions, path around the MLP kept; {_ALL}",
        "the loss falls",
        "ratio",
    ),
    "Q17": PrintedClaim(
        "section 4.4",
        "Without the directions that W_L reads the network is worse than uniform.",
        "loss 5.27 (uniform: 4.73)",
        f"those directions removed from the neurons; {_ALL}",
        "the loss is above ln p",
        "which ablation hurts",
    ),
    "Q18": PrintedClaim(
        "section 4.4, figure 6",
        "Removing a key frequency from the logits hurts, removing any other does not.",
        "a large rise for each key frequency, no harm for any other",
        f"the two sum directions of one frequency at a time (and its block of 8); {_ALL}",
        "each key frequency multiplies the loss by at least 10, each other changes it by less than 10%",
        "which ablation hurts",
    ),
    "Q19": PrintedClaim(
        "section 4.4, figure 6",
        "Removing everything but the key frequencies lowers the loss.",
        "loss -70%: 7.24e-8",
        f"logits projected on the constant and the key frequencies' blocks (8 each); {_ALL}",
        "the loss falls",
        "ratio",
    ),
    "Q20": PrintedClaim(
        "section 1",
        "Removing the key frequencies brings the network to chance; removing all others improves it.",
        "chance; a slight improvement",
        f"`ablate` at the logits, sum directions, keep=False and keep=True; {_ALL}",
        "above ln p without them, below the full loss with nothing else",
        "which ablation hurts",
    ),
    "Q21": PrintedClaim(
        "authors' notebook, not in the paper",
        "Every cluster of neurons is needed.",
        "loss without cluster 14: 2.0e-4; 35: 4.6e-4; 41: 1.9e-3; 42: 5.2e-3; 52: 2.4e-2",
        f"clusters as polynomials of their frequency (Q14), one of them replaced by its mean; {_ALL}",
        "dropping any one multiplies the loss by at least 10",
        "which ablation hurts",
    ),
    "Q22": PrintedClaim(
        "appendix A.1",
        "Attention from = to itself does not matter.",
        "0.1% to 0.4% per head; ablating it changes nothing",
        f"mean over all pairs; set to zero and the rest scaled to 1, at attn_pattern; {_ALL}",
        "at most 1% in every head, and the loss changes by less than 10%",
        "share, ratio",
    ),
    "Q23": PrintedClaim(
        "appendix A.1",
        "The path around the MLP hardly matters.",
        "2.4e-7 -> 9.12e-7 (zero), 7.25e-7 (mean)",
        f"resid_mid taken out of resid_post, or replaced by its mean over pairs; {_ALL}",
        "the accuracy stays above 99%",
        "order of magnitude",
    ),
    "Q24": PrintedClaim(
        "appendix A.1",
        "The heads and the path around attention matter.",
        "24.3 without the heads, 19.1 without the path around them: worse than chance",
        f"zero at attn_out; embed and pos_embed taken out of resid_mid; {_ALL}",
        "both above ln p",
        "which ablation hurts",
    ),
    "Q25": PrintedClaim(
        "appendix B",
        "One cosine alone is ambiguous.",
        "cos(2 pi 14 * 8 / 113) = 0.998",
        "arithmetic; and the largest cosine of our own first key frequency at a wrong answer",
        "0.998 to three digits",
        "the same number",
    ),
    "Q26": PrintedClaim(
        "appendix C.1.2, C.1.3, table 2",
        "Attention to a is 0.5 + alpha (cos w_k a - cos w_k b) + beta (sin w_k a - sin w_k b).",
        "k = 35, 42, 52, 42 for heads 0 to 3; 99.03, 98.49, 99.07, 97.91% explained; alpha, beta not verified",
        "least squares over all pairs, best k per head",
        "over 95% explained in every head",
        "share",
    ),
    "Q27": PrintedClaim(
        "appendix C.1.3",
        "The softmax may be replaced by that linear fit.",
        "2.41e-7 -> 2.12e-7",
        f"the fits of Q26 put at attn_pattern, attention to = zero; {_ALL}",
        "the loss at most doubles",
        "ratio",
    ),
    "Q28": PrintedClaim(
        "appendix C.1.2",
        "Some heads move a single frequency, others all of them.",
        "OV of heads 0 and 2 of one frequency; heads 1 and 3 of opposite patterns carry all five",
        "share of the largest frequency in W_E W_V W_O of each head",
        "some head moves one frequency to over 90%",
        "share; the roles may differ by seed",
    ),
    "Q29": PrintedClaim(
        "section 5.2",
        "Training has three phases.",
        "memorisation to 1,400, circuit formation to 9,400, cleanup to 14,000 (by eye)",
        "by the criterion of `phases` on the run's progress measures",
        "all three are found, in that order",
        "order; epochs differ by seed",
    ),
    "Q30": PrintedClaim(
        "section 5.1, figure 7",
        "Excluded and restricted loss move long before the test loss.",
        "no number printed (restricted loss below 1 at 5,980, test loss at 9,880: read off a figure)",
        "epochs at which restricted loss (all pairs) and test loss first stay below 1, and excluded loss (training "
        "pairs) first exceeds ten times its least value",
        "restricted and excluded loss both move at least 1,000 epochs before the test loss",
        "lead in epochs",
    ),
}  # fmt: skip
