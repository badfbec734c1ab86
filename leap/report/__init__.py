"""One self-contained HTML page of evaluation results: tables, figures, and every example with what each model answered.

    steps.py        an answer's steps beside those of the ground truth
    examples.py     the examples of the page: an index to filter and sort, details by task
    lengths.py      scores by the length of the ground truth
    headline.py     what the best model reaches, in a sentence and four numbers
    overview.py     means, counts, errors, settings
    review.py       the blind review: plans by row, what judges said, the summary
    build.py        all of it as one file, by leap/pages; assets/ holds its HTML, CSS and JavaScript

A page of another kind of result would be one more module that returns JSON values, one more island of data in build.py
and one more entry of `pages` in assets/.
"""
