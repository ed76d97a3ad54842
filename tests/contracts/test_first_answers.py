"""The first answers of a new process may all come at once, to as many threads as there are.

msgspec (0.22) learns a class when it first meets it, and crashes the process where two threads let it do so at once:
the page's process died of the first searches of forty clients. So one thread, the importing one, lets it meet each.
"""

import json
import subprocess
import sys

# The classes are those that the SDK itself reads answers into, found in its code, whatever ours says of them. Those of
# services that we do not use are left out, and a service that a new SDK brings is not.
_STILL_TO_LEARN = r"""
import importlib, inspect, json, pkgutil, re, sys
import msgspec
import vecfleet.stores.pinecone.inference, vecfleet.stores.pinecone.store
from pinecone._internal import adapters

UNUSED = {"admin_adapter", "assistants_adapter", "backup_schedules_adapter", "collections_adapter"}
CALL = r"(?:decode|convert)_response(?:_lax)?\([^()]*(?:\([^()]*\))?[^()]*, (\w+)\)"

def learnt(answer):
    asked = []
    def watch(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "get_class_annotations":
            asked.append(frame)
    sys.setprofile(watch)
    msgspec.json.Decoder(answer)
    sys.setprofile(None)
    return not asked

class New(msgspec.Struct):
    name: str

answers = {"New": New}
for found in pkgutil.iter_modules(adapters.__path__):
    if found.name.endswith("_adapter") and found.name not in UNUSED:
        adapter = importlib.import_module(f"{adapters.__name__}.{found.name}")
        for name in re.findall(CALL, inspect.getsource(adapter)):
            answer = vars(adapter).get(name)
            if isinstance(answer, type):
                answers[name] = answer
print(json.dumps({name: learnt(answer) for name, answer in answers.items()}))
"""


def test_no_thread_lets_msgspec_meet_a_class_that_the_sdk_reads_answers_into() -> None:
    # Given a new process that loaded our store
    done = subprocess.run([sys.executable, "-c", _STILL_TO_LEARN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    learnt: dict[str, bool] = json.loads(done.stdout)

    # When an answer comes, then msgspec has met its class before; the first of another class it would have to learn
    assert [name for name, known in learnt.items() if not known] == ["New"]

    # And the answers of every plane are among them
    assert learnt.keys() >= {"IndexModel", "_IndexListEnvelope", "ImportModel", "QueryResponse", "ModelInfo"}
