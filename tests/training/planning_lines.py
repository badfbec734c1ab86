"""Rows of a planning file."""

import json

GOOD = {"messages": [{"role": "user", "content": "Plan."}], "target": {"steps": "1) Go."}}


def row(text="Plan.", steps="1) Go. 2) Stop.", image=None, **more):
    content = [{"type": "image", "image": image}] if image else []
    content.append({"type": "text", "text": text})
    return json.dumps({"messages": [{"role": "user", "content": content}], "target": {"steps": steps}} | more)
