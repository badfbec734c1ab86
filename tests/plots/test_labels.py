from leap.plots.labels import short_names


def test_long_names_are_shortened_where_they_are_alike_and_stay_different():
    run = "qwen3vl_2b_instruct_lora_rank{}_lr2e-4_warmup500_seed42-checkpoint-2000_1shot"
    names = [
        run.format(8),
        run.format(16),
        "baseline",
        "$x$",
        "_own",
        "x" * 90 + "y" + "x" * 90,
        "x" * 90 + "z" + "x" * 90,
    ]
    short = short_names(names)
    assert short[run.format(16)] == "qwen3vl...rank16...-checkpoint-2000_1shot"
    assert (short["baseline"], short["$x$"], short["_own"]) == ("baseline", r"\$x\$", " _own")
    assert len(set(short.values())) == len(names)
    # Two runs that would read alike, of differently many words each.
    names = [f"a_{'b' * 30}_{i}{'_c' * c}_{'d' * 30}" for c in (1, 2) for i in (1, 2)]
    assert len(set(short_names(names).values())) == 4
