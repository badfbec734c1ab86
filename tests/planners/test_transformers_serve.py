"""`transformers serve`, an endpoint that is nobody's fake, against the same model in this process."""

import socket
import time
import urllib.request

import pytest
import torch

from configs.config import WorkspaceConfig
from leap.endpoint import Endpoint
from leap.models.loading import load_processor, load_weights
from leap.planners import Query
from leap.planners.endpoint import EndpointPlanner
from leap.planners.options import AnsweringOptions
from leap.vlabench.examples import find_examples
from leap.vlabench.prompts import PromptWriter
from tests.planners.lively import write_lively

NEW_TOKENS = 24

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def lively(demo, tmp_path_factory):
    # A service's own settings must not come through: we ask for greedy decoding without a penalty.
    settings = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.3}
    return write_lively(demo / "models" / "tiny-planner", tmp_path_factory.mktemp("lively"), **settings)


@pytest.fixture
def served(lively):
    """The address of a running `transformers serve`. In this process, where torch is loaded: a new one takes half a
    minute to import what it needs."""
    from transformers.cli.serve import Serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    state = torch.get_rng_state()
    server = Serve(str(lively), host="127.0.0.1", port=port, device="cpu", dtype="float32", non_blocking=True)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                assert time.monotonic() < deadline, "transformers serve did not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill_server()
        torch.set_rng_state(state)


def test_a_served_model_gives_the_answers_of_the_same_model_here(demo, lively, served):
    examples = find_examples(demo / "dataset" / "vlm_evaluation_v1.0", ["Spatial"])["Spatial"]
    writer = PromptWriter(WorkspaceConfig(demo), "builtin", few_shot_num=1, pool=examples)
    queries = [
        Query(f"{example.task} {example.number}", example.task, [{"role": "user", "content": writer.write(example)}])
        for example in examples
    ]
    options = AnsweringOptions(base_url=served, concurrency=2, request_timeout_s=60, max_new_tokens=NEW_TOKENS)
    planner = EndpointPlanner(Endpoint(options, str(lively)), options)
    answers = {query.key: answer for found in planner.answer(planner.batches(queries)) for query, answer in found}

    model, processor = load_weights(lively, "float32").eval(), load_processor(lively)
    for query in queries:
        text, tokens = greedy(model, processor, query)
        # The server strips the text it sends.
        assert (answers[query.key].text, answers[query.key].new_tokens) == (text.strip(), tokens)
        assert answers[query.key].stop == ("length" if tokens == NEW_TOKENS else "end")
    assert len({answer.text for answer in answers.values()}) == len(queries)


@torch.no_grad()
def greedy(model, processor, query) -> tuple[str, int]:
    """What the model says to one prompt, and in how many tokens."""
    prompt = processor.apply_chat_template(query.messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[prompt], images=query.pictures(), return_tensors="pt")
    options = {"do_sample": False, "temperature": None, "top_p": None, "repetition_penalty": 1.0}
    output = model.generate(**inputs, max_new_tokens=NEW_TOKENS, **options)[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(output, skip_special_tokens=True), len(output)
