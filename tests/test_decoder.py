"""The prefix tree and the decoder against networkx, torch's own GRUCell and enumeration."""

from __future__ import annotations

import pytest
import torch
from helpers import SHIPPED, build, make_decoder, make_features, random_graphs, simple_paths, slow_steps, ten
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from labelaug_core import losses
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.graph import EOP, GraphError, LabelGraph
from labelaug_core.graph_file import load_graph
from labelaug_core.prefix_tree import PrefixTree


def random_slots(tree: PrefixTree, batch: int = 3, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    """Slot log-probabilities of a decoder that knows nothing: block softmax of random scores, float64."""
    z = torch.randn(batch, len(tree.slot_node), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return block_log_softmax(z * scale, tree.slot_block, tree.block_exclusive)


def some_labels(data, graph: LabelGraph) -> list[str]:
    """Any non-empty selection of a graph's labels, in any order: the labels evaluated."""
    return data.draw(st.lists(st.sampled_from(graph.label_nodes()), min_size=1, unique=True), label="labels")


def flat(n: int = 5) -> LabelGraph:
    """A root and n labels, one question: an ordinary classifier."""
    names = [f"y{i}" for i in range(n)]
    groups = {"class": {"below": "root", "nodes": names}}
    return build({"root": "root", "groups": groups, "labels": {"d": {"nodes": names}}})


# -- the tree ------


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.data())
def test_the_trees_paths_are_the_graphs(graph, data):
    labels = some_labels(data, graph)
    tree = PrefixTree(graph, labels)
    assert sorted(tree.paths) == sorted(path for y in labels for path in simple_paths(graph, y))
    assert [labels[i] for i in tree.path_label] == [path[-1] for path in tree.paths]
    assert tree.deterministic.tolist() == [graph.is_deterministic(path) for path in tree.paths]
    for slots, path in zip(tree.path_slots, tree.paths, strict=True):
        steps = [tree.prefixes[e] for e in slots if e < len(tree.slot_node)]
        whole = steps[-1][:-1] if steps[-1][-1] == EOP else steps[-1]
        assert whole == path and [len(s) for s in steps] == list(range(2, len(steps[-1]) + 1))


@pytest.mark.parametrize("name", SHIPPED)
def test_all_paths_sum_to_one_on_shipped_graphs(name):
    graph = load_graph(name)
    decoder = make_decoder(graph, seed=1)
    for labels in (graph.label_nodes(), *map(graph.label_nodes, graph.labels)):
        tree = PrefixTree(graph, labels)
        slot_logp = decoder.slot_log_probs(make_features(4), tree)
        one = torch.ones(4, dtype=torch.float64)
        torch.testing.assert_close(tree.path_log_probs(slot_logp).exp().sum(1), one, atol=1e-10, rtol=0)
        torch.testing.assert_close(tree.label_log_probs(slot_logp).exp().sum(1), one, atol=1e-10, rtol=0)


@settings(max_examples=60, deadline=None)
@given(random_graphs(), st.data())
def test_all_paths_sum_to_one_on_random_graphs(graph, data):
    tree = PrefixTree(graph, some_labels(data, graph))
    total = tree.path_log_probs(random_slots(tree)).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64), atol=1e-10, rtol=0)


def test_a_path_is_the_sum_of_its_steps():
    tree = PrefixTree(load_graph("critters"), load_graph("critters").label_nodes())
    slot_logp = random_slots(tree)
    at = {prefix: e for e, prefix in enumerate(tree.prefixes)}
    for p, path in enumerate(tree.paths):
        prefixes = [path[:t] for t in range(2, len(path) + 1)]
        prefixes += [(*path, EOP)] if (*path, EOP) in at else []
        slots = [at[prefix] for prefix in prefixes]
        answers = slot_logp[:, slots].sum(1)
        torch.testing.assert_close(tree.answer_log_probs(slot_logp)[:, p], answers)
        blocks = [
            len({int(tree.slot_block[e]) for e in at.values() if tree.slot_state[e] == tree.slot_state[s]})
            for s in slots
        ]
        questions = torch.tensor(blocks, dtype=torch.float64).log().sum()
        torch.testing.assert_close(tree.path_log_probs(slot_logp)[:, p], answers - questions, atol=1e-10, rtol=0)


def test_trees_that_cannot_be_are_refused():
    graph = build()
    with pytest.raises(GraphError, match="'fox'"):
        PrefixTree(graph, ["Brit", "fox"])
    with pytest.raises(GraphError, match="'animal'"):
        PrefixTree(graph, ["animal"])
    with pytest.raises(GraphError, match="cap=5"):
        PrefixTree(graph, ["Brit", "Coon"], cap=5)
    names = [f"v{i}" for i in range(600)]
    star = build({"root": "r", "groups": {"g": {"below": "r", "nodes": names}}, "labels": {"d": {"groups": ["g"]}}})
    with pytest.raises(GraphError, match="600 labels and 600 slots.*cap=700.*SampledPathHead"):
        PrefixTree(star, names, cap=700)


# -- the decoder's probabilities ------


def check_against_enumeration(graph: LabelGraph, labels: list[str], literal: bool = False) -> None:
    tree, decoder, x = PrefixTree(graph, labels, literal), make_decoder(graph, seed=2), make_features(2)
    slot_logp = decoder.slot_log_probs(x, tree)
    answer_logp, path_logp = tree.answer_log_probs(slot_logp), tree.path_log_probs(slot_logp)
    position = {path: p for p, path in enumerate(tree.paths)}
    for b in range(len(x)):
        for i, label in enumerate(labels):
            total = 0.0
            for path in simple_paths(graph, label):
                steps = slow_steps(decoder, graph, x[b], path, labels, literal)
                answers = sum(logp for logp, _ in steps)
                questions = torch.tensor([n for _, n in steps], dtype=torch.float64).log().sum()
                torch.testing.assert_close(answer_logp[b, position[path]], answers, atol=1e-10, rtol=0)
                torch.testing.assert_close(path_logp[b, position[path]], answers - questions, atol=1e-10, rtol=0)
                total = total + (answers - questions).exp()
            torch.testing.assert_close(tree.label_log_probs(slot_logp)[b, i].exp(), total, atol=1e-10, rtol=0)


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("datasets", [("critters", "critters-species"), ("critters",), ("critters-species",)])
def test_label_probabilities_are_enumeration(datasets, literal):
    """One shared pass over the tree = every path by itself, in sequence, through nn.GRUCell."""
    graph = load_graph("critters")
    check_against_enumeration(graph, graph.label_nodes(*datasets), literal)


@settings(max_examples=25, deadline=None)
@given(random_graphs(exclusive=False), st.booleans(), st.data())
def test_label_probabilities_are_enumeration_on_random_graphs(graph, literal, data):
    check_against_enumeration(graph, some_labels(data, graph), literal)


def test_gradients_are_those_of_the_gru_cell():
    graph = build()
    labels, x = graph.label_nodes(), make_features(1)
    tree, decoder = PrefixTree(graph, labels), make_decoder(graph)
    answers = tree.answer_log_probs(decoder.slot_log_probs(x, tree)).sum()
    slow = sum(logp for path in tree.paths for logp, _ in slow_steps(decoder, graph, x[0], path, labels))
    weights = dict(decoder.named_parameters())
    fast_grad = torch.autograd.grad(answers, list(weights.values()))
    slow_grad = torch.autograd.grad(slow, list(weights.values()))
    for name, a, b in zip(weights, fast_grad, slow_grad, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8, msg=name)


def objectives(tree: PrefixTree, slot_logp: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every objective that looks at ground-truth paths alone."""
    own = (tree.path_label == y[:, None]).double()
    return {
        "marginal": losses.marginal_likelihood(tree.label_log_probs(slot_logp), y),
        "question": losses.question_likelihood(tree, slot_logp, y),
        "teacher forcing": losses.teacher_forcing(
            tree.answer_log_probs(slot_logp), losses.deterministic_paths(tree, y)
        ),
        "expected reward": losses.expected_reward(tree.path_log_probs(slot_logp), own),
    }


def check_only(graph: LabelGraph, labels: list[str], y: torch.Tensor) -> None:
    tree, decoder = PrefixTree(graph, labels), make_decoder(graph, seed=3)
    x = make_features(len(y))
    weights = list(decoder.parameters())
    whole = objectives(tree, decoder.slot_log_probs(x, tree), y)
    part = objectives(tree, decoder.slot_log_probs(x, tree, only=tree.wanted[y]), y)
    for name in whole:
        torch.testing.assert_close(part[name], whole[name], atol=1e-10, rtol=1e-10, msg=name)
        if whole[name].requires_grad:
            grads = [torch.autograd.grad(o[name], weights, retain_graph=True) for o in (part, whole)]
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8, msg=name)


@pytest.mark.parametrize("name", ["pet", "flower"])
def test_only_ground_truth_paths_give_the_same_loss_and_gradient(name):
    graph = load_graph(name)
    labels = graph.label_nodes()
    y = torch.arange(len(labels))[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    check_only(graph, labels, torch.cat([y[:6], torch.tensor([0, 0, len(labels) - 1])]))
    check_only(
        graph, labels, torch.tensor([len(labels) - 1])
    )  # a batch of coarse labels: the tree's lower levels are bare


@settings(max_examples=40, deadline=None)
@given(random_graphs(), st.data())
def test_only_on_random_graphs(graph, data):
    labels = some_labels(data, graph)
    y = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, max_size=4), label="y")
    check_only(graph, labels, torch.tensor(y))


@settings(max_examples=40, deadline=None)
@given(random_graphs(exclusive=False), st.booleans(), st.data())
def test_states_are_computed_only_where_they_decide_something(graph, literal, data):
    """By the slow definition: on a path to the label, and some block there or later on that path is no lone answer."""
    labels = some_labels(data, graph)
    tree = PrefixTree(graph, labels, literal)
    expected = torch.zeros_like(tree.wanted)
    for p, label in enumerate(tree.path_label.tolist()):
        slots = [e for e in tree.path_slots[p].tolist() if e < len(tree.slot_node)]
        states = [int(tree.slot_state[e]) for e in slots]
        for t, state in enumerate(states):
            blocks = [tree.slot_block[e] for e in slots[t:]]
            if any((tree.slot_block == b).sum() > 1 or not tree.block_exclusive[b] for b in blocks):
                expected[label, state] = True
        assert tree.wanted_on(torch.tensor([p]))[0].nonzero()[:, 0].tolist() == sorted(states)
    assert torch.equal(tree.wanted, expected)


def check_sequence(graph: LabelGraph) -> None:
    tree, decoder = PrefixTree(graph, graph.label_nodes()), make_decoder(graph)
    x, path = make_features(len(tree.paths)), torch.arange(len(tree.paths))
    got = decoder.sequence_log_probs(x, tree, path, forced=torch.ones(len(tree.levels), dtype=torch.bool))
    expected = tree.answer_log_probs(decoder.slot_log_probs(x, tree)).gather(1, path[:, None])[:, 0]
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


def test_teacher_forced_sequence_is_the_trees_path():
    check_sequence(load_graph("pet"))


@settings(max_examples=40, deadline=None)
@given(random_graphs(exclusive=False))
def test_teacher_forced_sequence_on_random_graphs(graph):
    check_sequence(graph)


def test_free_running_sequence_feeds_the_models_own_answer():
    """Tails: after a wrong guess the state comes from the guess, the loss still from the ground truth."""
    graph = build()
    tree, decoder, x = PrefixTree(graph, graph.label_nodes("fine")), make_decoder(graph), make_features(1)
    with torch.no_grad():
        decoder.score.bias[graph.index["Solid"]] += 1000.0  # asked for the colour, it says Solid
        decoder.score.bias[graph.index["cat"]] += 1000.0
    path = tree.paths.index(("animal", "cat", "Tabby", "Coon"))
    tails = torch.zeros(len(tree.levels), dtype=torch.bool)
    got = decoder.sequence_log_probs(x, tree, torch.tensor([path]), tails)
    f, total = torch.tanh(decoder.start(x)), 0.0
    for fed, truth, rivals in (
        ("animal", "cat", ["cat", "dog"]),
        ("cat", "Tabby", ["Solid", "Tabby"]),
        ("Solid", "Coon", ["Brit", "Coon"]),
    ):
        f = decoder.cell(decoder.embedding.weight[graph.index[fed]][None], f)
        z = decoder.score(f)[0]
        total = total + z[graph.index[truth]] - z[[graph.index[w] for w in rivals]].logsumexp(0)
    torch.testing.assert_close(got[0], total, atol=1e-8, rtol=1e-10)


def test_one_question_is_plain_cross_entropy():
    """Paths of one step: the decoder is a linear classifier, every likelihood is its cross-entropy."""
    graph = flat()
    labels, x, y = graph.label_nodes(), make_features(7), torch.tensor([0, 1, 2, 3, 4, 0, 2])
    tree, decoder = PrefixTree(graph, labels), make_decoder(graph)
    f = decoder.cell(decoder.embedding.weight[0].expand(7, -1), torch.tanh(decoder.start(x)))
    plain = cross_entropy(decoder.score(f)[:, [graph.index[v] for v in labels]], y)
    slot_logp = decoder.slot_log_probs(x, tree)
    assert bool(tree.deterministic.all()) and not bool(losses.is_uncertain(tree, y).any())
    weights = list(decoder.parameters())
    expected = torch.autograd.grad(plain, weights, retain_graph=True, allow_unused=True)
    for name, loss in objectives(tree, slot_logp, y).items():
        if name == "expected reward":  # -p, not -log p
            torch.testing.assert_close(loss, -tree.label_log_probs(slot_logp).exp()[range(7), y].mean())
            continue
        torch.testing.assert_close(loss, plain, atol=1e-10, rtol=0)
        for a, b in zip(
            torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True), expected, strict=True
        ):
            assert (a is None) == (b is None) or (a if b is None else b).abs().max() == 0
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)
    assert torch.equal(tree.path_label[tree.greedy(slot_logp)], tree.label_log_probs(slot_logp).argmax(1))


# -- sampling and greedy decoding ------


def check_legal(graph: LabelGraph, tree: PrefixTree, path: torch.Tensor) -> None:
    for p in path.tolist():
        assert p >= 0
        nodes = tree.paths[p]
        assert nodes[0] == graph.root and nodes[-1] in tree.labels
        assert all(v in graph.parents[u] for v, u in zip(nodes, nodes[1:], strict=False))


@settings(max_examples=80, deadline=None)
@given(random_graphs(), st.sampled_from([0.0, 1.0, 30.0, 1000.0]), st.integers(0, 99), st.data())
def test_decoded_paths_are_legal_and_end_at_an_evaluated_label(graph, scale, seed, data):
    labels = some_labels(data, graph)
    tree = PrefixTree(graph, labels)
    for slot_logp in (random_slots(tree, 20, scale, seed), random_slots(tree, 20, scale, seed).float()):
        check_legal(graph, tree, tree.sample(slot_logp, torch.Generator().manual_seed(seed)))
        check_legal(graph, tree, tree.greedy(slot_logp))
        check_legal(graph, tree, tree.greedy(slot_logp, literal=True))


@settings(max_examples=40, deadline=None)
@given(random_graphs(exclusive=False), st.sampled_from([0.0, 3.0, 1000.0]), st.booleans(), st.data())
def test_decoded_paths_are_legal_in_trees_of_other_kinds(graph, scale, literal, data):
    """Literal trees have answers that lead nowhere, groups without competition may say no to every answer."""
    tree = PrefixTree(graph, some_labels(data, graph), literal)
    slot_logp = random_slots(tree, 20, scale).float()
    check_legal(graph, tree, tree.greedy(slot_logp, literal))
    check_legal(graph, tree, tree.sample(slot_logp, torch.Generator().manual_seed(0)))


def walked_distribution(tree: PrefixTree, slot_logp: torch.Tensor, monkeypatch) -> torch.Tensor:
    """The distribution that tree.sample walks: all sequences of draws are played. slot_logp [1, E]."""
    total = torch.zeros(len(tree.paths), dtype=torch.float64)
    todo = [()]
    while todo:
        script, p, played = todo.pop(), [1.0], [0]

        def draw(weight, n, generator=None, script=script, p=p, played=played):
            chance = weight[0].double() / weight[0].double().sum()
            step = played[0]
            played[0] += 1
            if step == len(script):  # the first draw that is not scripted: play each of its outcomes later
                todo.extend((*script, e) for e in chance.nonzero()[:, 0].tolist())
            if step >= len(script):
                p[0] = 0.0
                return chance.argmax()[None, None]
            p[0] *= float(chance[script[step]])
            return torch.tensor([[script[step]]])

        with monkeypatch.context() as patch:
            patch.setattr(torch, "multinomial", draw)
            path = tree.sample(slot_logp)
        total[path] += p[0]
    return total


@pytest.mark.parametrize("datasets", [("fine",), ("fine", "coarse")])
def test_samples_follow_the_path_distribution(monkeypatch, datasets):
    graph = build()
    tree = PrefixTree(graph, graph.label_nodes(*datasets))
    slot_logp = random_slots(tree, 1)
    expected = tree.path_log_probs(slot_logp)[0].exp()
    torch.testing.assert_close(walked_distribution(tree, slot_logp, monkeypatch), expected, atol=1e-10, rtol=0)


@settings(max_examples=15, deadline=None)
@given(random_graphs(), st.data())
def test_samples_follow_the_path_distribution_on_random_graphs(graph, data):
    tree = PrefixTree(graph, some_labels(data, graph))
    if len(tree.slot_node) > 25:
        return
    slot_logp = random_slots(tree, 1)
    with pytest.MonkeyPatch.context() as patch:
        walked = walked_distribution(tree, slot_logp, patch)
    torch.testing.assert_close(walked, tree.path_log_probs(slot_logp)[0].exp(), atol=1e-10, rtol=0)


def test_samples_are_seeded():
    tree = PrefixTree(load_graph("pet"), load_graph("pet").label_nodes())
    slot_logp = random_slots(tree, 100, scale=0.5)
    first, again, other = (tree.sample(slot_logp, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@settings(max_examples=40, deadline=None)
@given(random_graphs(exclusive=False), st.booleans(), st.integers(0, 99), st.data())
def test_the_decoder_samples_as_the_whole_tree_does(graph, literal, seed, data):
    """The same draws give the same paths, although only the states on them are computed."""
    tree, decoder, x = PrefixTree(graph, some_labels(data, graph), literal), make_decoder(graph), make_features(20)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    whole = tree.sample(decoder.slot_log_probs(x, tree), generators[0])
    assert torch.equal(decoder.sample(x, tree, generators[1]), whole)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@settings(max_examples=60, deadline=None)
@given(random_graphs(inner_labels=False, one_group=True), st.integers(0, 99))
def test_greedy_is_the_most_probable_path_where_one_question_is_asked(graph, seed):
    """One block a state and answers above one half all the way: no other path can be more probable."""
    tree = PrefixTree(graph, graph.label_nodes())
    z = torch.randn(5, len(tree.slot_node), generator=torch.Generator().manual_seed(seed))
    for state in range(len(tree.state_node)):  # one dominant answer at each state
        slots = (tree.slot_state == state).nonzero()[:, 0]
        z[
            range(5),
            slots[torch.randint(len(slots), (5,), generator=torch.Generator().manual_seed(state + seed))],
        ] += 20
    slot_logp = block_log_softmax(z, tree.slot_block)
    assert torch.equal(tree.greedy(slot_logp), tree.path_log_probs(slot_logp).argmax(1))
    assert torch.equal(tree.greedy(slot_logp), tree.greedy(slot_logp, literal=True))  # nothing to differ in


@pytest.mark.parametrize(
    "path", [("animal", "cat", "Short", "Brit"), ("animal", "cat", "Tabby", "Coon"), ("animal", "dog", "Pug")]
)
def test_greedy_follows_the_surest_answers(path):
    graph = build()
    tree = PrefixTree(graph, graph.label_nodes("fine"))
    z = torch.zeros(1, len(tree.slot_node))
    for e, prefix in enumerate(tree.prefixes):
        z[0, e] = 9.0 if prefix == path[: len(prefix)] else 0.0
    slot_logp = block_log_softmax(z, tree.slot_block)
    assert tree.paths[int(tree.greedy(slot_logp)[0])] == path


def test_the_papers_literal_rule_lets_a_lone_answer_win():
    """A block of one has p = 1: by the paper's argmax over all blocks it wins. Ours asks elsewhere."""
    data = ten()
    data["groups"]["voice"] = {"below": "cat", "nodes": ["Meow"]}
    data["groups"]["cat breed"] |= {"columns": ["hair", "color", "voice"]}
    for row in data["groups"]["cat breed"]["nodes"].values():
        row.append("Meow")
    graph = build(data)
    tree = PrefixTree(graph, graph.label_nodes("fine"))
    z = torch.zeros(1, len(tree.slot_node))
    for e, prefix in enumerate(tree.prefixes):  # cat, and Long by far
        z[0, e] = 2.0 if prefix[-1] in ("cat", "Long", "Coon") else -2.0
    slot_logp = block_log_softmax(z, tree.slot_block)
    assert tree.paths[int(tree.greedy(slot_logp, literal=True)[0])] == ("animal", "cat", "Meow", "Coon")
    assert tree.paths[int(tree.greedy(slot_logp)[0])] == ("animal", "cat", "Long", "Coon")


def test_literal_greedy_ends_at_an_inner_label_ours_does_not():
    graph = build()
    tree = PrefixTree(graph, graph.label_nodes())  # cat and dog may end a path here
    slot_logp = random_slots(tree, 50)
    literal = {tree.paths[p][-1] for p in tree.greedy(slot_logp, literal=True).tolist()}
    ours = {tree.paths[p][-1] for p in tree.greedy(slot_logp).tolist()}
    assert "cat" in literal and not literal & {
        "Brit",
        "Coon",
    }  # <eop>, alone in its block, wins against any hair
    assert "Pug" in ours and ours & {"Brit", "Coon"} and not ours & {"cat", "dog"}


def test_the_literal_tree_normalises_over_the_whole_group():
    graph = build()
    decoder, x = make_decoder(graph), make_features(1)
    ours, literal = (PrefixTree(graph, graph.label_nodes("fine"), rule) for rule in (False, True))
    lone = ("animal", "cat", "Short", "Brit")  # no other breed below Short; Coon is in Brit's group
    by_rule = [decoder.slot_log_probs(x, tree)[0, tree.prefixes.index(lone)] for tree in (ours, literal)]
    assert by_rule[0] == 0 and by_rule[1] < 0
    assert sorted(literal.paths) == sorted(ours.paths)
    total = literal.path_log_probs(decoder.slot_log_probs(x, literal)).exp().sum()
    assert total < 1  # what it breaks: probability goes to answers that lead nowhere


@pytest.mark.parametrize("name", ["pet", "critters", "flower"])
def test_fine_evaluation_never_ends_at_an_inner_label(name):
    graph = load_graph(name)
    fine = graph.label_nodes(next(iter(graph.labels)))
    tree = PrefixTree(graph, fine)
    inner = [v for v in graph.label_nodes() if graph.children(v) and v not in fine]
    assert inner and not {path[-1] for path in tree.paths} & set(inner)
    slot_logp = make_decoder(graph).slot_log_probs(make_features(30), tree)
    for path in (tree.greedy(slot_logp), tree.greedy(slot_logp, literal=True), tree.sample(slot_logp)):
        assert {tree.paths[p][-1] for p in path.tolist()} <= set(fine)
        check_legal(graph, tree, path)
