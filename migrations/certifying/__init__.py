"""Questions that tell whether the service is what we take it for, asked in scratch indexes of a real account.

metering    the budget: what each call may cost, before it is sent
wire        requests to one index over REST, and what came back, uninterpreted
question    a question with our belief, and the scratch index in which it is asked
vectors     questions about records of an index of vectors
listing     questions about lists of ids and of namespaces
refusals    questions about what is refused
freshness   questions about what shows when, and about write sequence numbers
sparse      questions about sparse values
documents   questions about document indexes
converting  questions about a conversion of vectors into documents by the service
miniature   a migration of a few records, there and back, each proven by its digest
runs        the files that remember runs, each locked while its run lives
scratch     scratch indexes: their names, their making and their removal
opening     opens scratch indexes, and deletes them in the end
asking      asks all questions, index by index
report      the differences between belief and answer, as a sealed document and as a page
"""
