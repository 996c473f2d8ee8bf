"""Statistics of evaluations: pure functions of numbers, with the standard library alone.

distributions   the normal and Student's t: quantiles and tails; the binomial's tails
means           means of values that come in clusters, as samples of one item do
shares          intervals of shares of right answers
pairs           two runs on the same items: how far apart, and whether that may be chance
families        many tests at once
samples         several answers to one question: pass@k, pass^k, majority@k
agreement       raters who agree: kappa, alpha, the bias of a position
power           what a number of items can show at all
bootstrap       figures of a whole corpus
"""
