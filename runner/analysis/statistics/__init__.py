"""Statistics of evaluations: pure functions of numbers, with only the standard library.

distributions   the normal and Student's t: quantiles and tails; the binomial's tails
means           means of values in clusters, such as the samples of one item
shares          intervals of shares of right answers
pairs           two runs on the same items: their difference, and whether it may be chance
families        p-values of many tests, adjusted
samples         several answers to one question: pass@k, pass^k, majority@k
agreement       the agreement of raters: kappa, alpha, position bias
power           the difference that a number of items can show
bootstrap       intervals of figures of a whole corpus
"""
