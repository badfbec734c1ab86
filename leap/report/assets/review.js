// The blind review.
