"""Archives of three tasks with their annotations, and what is made of them."""

SCRIPT = "utils/prepare_love_agibot.py"
EPISODES = {str(episode): [3, 1, 2] for episode in range(1, 13)}


def annotation(task, episode, **fields):
    texts = ("Pick up the cup.", "Put it down.")
    config = [
        {"start_frame": 9 * i, "end_frame": 9 * i + 8, "action_text": text, "skill": text.split()[0]}
        for i, text in enumerate(texts)
    ]
    return {
        "episode_id": int(episode),
        "task_id": int(task),
        "task_name": f"Task {task}",
        "label_info": {"action_config": config},
    } | fields


def files_of(root):
    """Every file of the workspace, hidden ones too, with its content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
