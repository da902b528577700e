"""The prefix tree and the packed decoder against networkx, the plain decoder and enumeration."""

from __future__ import annotations

import pytest
import torch
from helpers import SHIPPED, build, make_decoder, make_features, random_graphs, simple_paths, some_labels, ten
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, logsigmoid

from labelaug_core import losses
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.decoder import greedy
from labelaug_core.graph import EOP, GraphError, LabelGraph
from labelaug_core.graph_file import load_graph
from labelaug_core.prefix_tree import PrefixTree


def flat(n: int = 5) -> LabelGraph:
    """A root and n labels, one question: an ordinary classifier."""
    names = [f"y{i}" for i in range(n)]
    groups = {"class": {"below": "root", "nodes": names}}
    return build({"root": "root", "groups": groups, "labels": {"d": {"nodes": names}}})


def nested() -> LabelGraph:
    """`dog` is a label above `beagle`; `Bengal` has two ways, one of them through the label `cat`."""
    data = {
        "root": "animal",
        "groups": {
            "species": {"below": "animal", "nodes": ["cat", "dog"]},
            "coat": {"below": "animal", "nodes": ["spotted", "plain"]},
            "breed": {"nodes": {"Bengal": ["cat", "spotted"], "Manx": ["cat", "plain"], "beagle": ["dog"]}},
        },
        "labels": {"fine": {"nodes": ["dog", "beagle", "Bengal", "Manx"]}, "coarse": {"nodes": ["cat"]}},
    }
    return build(data, "nested.yaml")


def own_paths(tree: PrefixTree, y: torch.Tensor) -> torch.Tensor:
    return (tree.path_label == y[:, None]).double()


# -- the tree ------


@settings(max_examples=80, deadline=None)
@given(random_graphs(exclusive=False), st.data())
def test_the_trees_paths_are_the_graphs(graph, data):
    labels, n = some_labels(data, graph)
    tree = PrefixTree(graph, labels, n)
    assert sorted(tree.paths) == sorted(path for y in labels for path in simple_paths(graph, y))
    assert [labels[i] for i in tree.path_label] == [path[-1] for path in tree.paths]
    assert tree.deterministic.tolist() == [path in graph.split_paths(path[-1])[0] for path in tree.paths]
    for slots, path, complete in zip(tree.path_slots, tree.paths, tree.complete, strict=True):
        steps = [tree.prefixes[e] for e in slots if e < len(tree.slot_node)]
        whole = steps[-1][:-1] if steps[-1][-1] == EOP else steps[-1]
        assert whole == path and [len(s) for s in steps] == list(range(2, len(steps[-1]) + 1))
        below = any(u in tree.legal for u in graph.children(path[-1]))
        assert (steps[-1][-1] == EOP) == (below and path[-1] in labels[:n])  # stopping is a decision there alone
        assert bool(complete) == (not below or path[-1] in labels[:n])


def check_sums(tree: PrefixTree, decoder, batch: int = 3) -> None:
    """Complete paths sum to 1, and so do evaluated labels; a coarse label has all complete paths through it."""
    path_logp = tree.path_log_probs(decoder.slot_log_probs(make_features(batch), tree))
    p, one = path_logp.exp(), torch.ones(batch, dtype=torch.float64)
    torch.testing.assert_close(p[:, tree.complete].sum(1), one, atol=1e-10, rtol=0)
    label = tree.label_log_probs(decoder.slot_log_probs(make_features(batch), tree)).exp()
    for k, name in enumerate(tree.labels):
        ends = torch.tensor([path[-1] == name for path in tree.paths])
        through = torch.tensor([name in path for path in tree.paths]) & tree.complete
        expected = p[:, ends & tree.complete] if k < tree.n_evaluated else p[:, through]
        torch.testing.assert_close(label[:, k], expected.sum(1), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", SHIPPED)
def test_all_paths_sum_to_one_on_shipped_graphs(name):
    graph = load_graph(name)
    fine, coarse = graph.labels
    n = len(graph.label_nodes(fine))
    for labels, evaluated in ((graph.label_nodes(), n), (graph.label_nodes(), None), (graph.label_nodes(coarse), None)):
        check_sums(PrefixTree(graph, labels, evaluated), make_decoder(graph, seed=1))


@settings(max_examples=80, deadline=None)
@given(random_graphs(), st.data())
def test_all_paths_sum_to_one_on_random_graphs(graph, data):
    check_sums(PrefixTree(graph, *some_labels(data, graph)), make_decoder(graph, seed=1))


def test_trees_that_are_too_large_are_refused():
    with pytest.raises(GraphError, match="cap=5"):
        PrefixTree(build(), ["Brit", "Coon"], cap=5)
    names = [f"v{i}" for i in range(600)]
    star = build({"root": "r", "groups": {"g": {"below": "r", "nodes": names}}, "labels": {"d": {"groups": ["g"]}}})
    with pytest.raises(GraphError, match="600 labels.*cap=700"):
        PrefixTree(star, names, cap=700)


# -- the packed form is the plain one ------


def check_plain(graph: LabelGraph, labels: list[str], n: int | None, literal: bool, feed: bool = False) -> None:
    tree, decoder, x = PrefixTree(graph, labels, n, literal), make_decoder(graph, seed=2, feed=feed), make_features(2)
    slot_logp = decoder.slot_log_probs(x, tree)
    for p, path in enumerate(tree.paths):
        slots = [e for e in tree.path_slots[p].tolist() if e < len(tree.slot_node)]
        torch.testing.assert_close(slot_logp[:, slots], decoder.steps_of_path(x, tree, path), atol=1e-10, rtol=0)
    answers = torch.stack([decoder.steps_of_path(x, tree, path).sum(1) for path in tree.paths], 1)
    torch.testing.assert_close(tree.answer_log_probs(slot_logp), answers, atol=1e-10, rtol=0)
    if not bool(tree.log_question.eq(0).all()) or literal:
        return
    torch.testing.assert_close(tree.path_log_probs(slot_logp), answers, atol=1e-10, rtol=0)


@pytest.mark.parametrize("literal", [False, True])
def test_the_packed_decoder_is_the_plain_one(literal):
    critters = load_graph("critters")
    check_plain(critters, critters.label_nodes(), 14, literal)
    check_plain(nested(), nested().label_nodes(), 4, literal)


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.booleans(), st.booleans(), st.data())
def test_the_packed_decoder_is_the_plain_one_on_random_graphs(graph, literal, feed, data):
    check_plain(graph, *some_labels(data, graph), literal, feed)


def test_features_that_are_fed_enter_at_every_step():
    """Two samples with one f_0: without `feed` the decoder cannot tell them apart."""
    graph, x = build(), make_features(2)
    tree = PrefixTree(graph, graph.label_nodes("fine"))
    for feed in (False, True):
        decoder = make_decoder(graph, feed=feed)
        torch.nn.init.zeros_(decoder.start.weight)
        first, second = decoder.slot_log_probs(x, tree)
        assert torch.equal(first, second) == (not feed)


def test_gradients_are_those_of_the_plain_decoder():
    graph, x = nested(), make_features(1)
    tree, decoder = PrefixTree(graph, graph.label_nodes(), 4), make_decoder(graph)
    weights = dict(decoder.named_parameters())
    packed = tree.answer_log_probs(decoder.slot_log_probs(x, tree)).sum()
    plain = sum(decoder.steps_of_path(x, tree, path).sum() for path in tree.paths)
    grads = [torch.autograd.grad(total, list(weights.values())) for total in (packed, plain)]
    for name, a, b in zip(weights, *grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8, msg=name)


def test_the_plain_decoder_by_hand():
    """dog, labelled and above beagle: stop, or go on and be a beagle."""
    graph, x = nested(), make_features(1)
    tree, decoder = PrefixTree(graph, graph.label_nodes("fine")), make_decoder(graph)
    index = graph.index
    f = decoder.cell(decoder.embedding.weight[:1], torch.tanh(decoder.start(x)))
    z = decoder.score(f)[0]
    dog = z[index["dog"]] - z[[index["cat"], index["dog"]]].logsumexp(0)
    f = decoder.cell(decoder.embedding.weight[index["dog"]][None], f)
    stop = logsigmoid(decoder.score(f)[0, -1])
    expected = {"dog": [dog, stop], "beagle": [dog, torch.log1p(-stop.exp())]}  # beagle is alone in its block
    for label, steps in expected.items():
        path = ("animal", "dog") if label == "dog" else ("animal", "dog", "beagle")
        torch.testing.assert_close(decoder.steps_of_path(x, tree, path)[0], torch.stack(steps), atol=1e-10, rtol=0)
    logp = tree.label_log_probs(decoder.slot_log_probs(x, tree))[0]
    torch.testing.assert_close(logp[0], dog + stop - torch.tensor(2.0).log(), atol=1e-8, rtol=0)  # one of two questions


def objectives(tree: PrefixTree, slot_logp: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every objective that looks at ground-truth paths alone."""
    answers, paths = tree.answer_log_probs(slot_logp), tree.path_log_probs(slot_logp)
    return {
        "marginal": losses.marginal_likelihood(tree.label_log_probs(slot_logp), y),
        "question": losses.question_likelihood(tree, slot_logp, y),
        "teacher forcing": losses.teacher_forcing(answers, losses.deterministic_paths(tree, y)),
        "expected reward": losses.expected_reward(paths, own_paths(tree, y)),
    }


def check_only(graph: LabelGraph, labels: list[str], n: int | None, y: torch.Tensor) -> None:
    tree, decoder = PrefixTree(graph, labels, n), make_decoder(graph, seed=3)
    x, weights = make_features(len(y)), list(decoder.parameters())
    whole = objectives(tree, decoder.slot_log_probs(x, tree), y)
    parts = {"wanted": list(whole), "wanted_certain": ["teacher forcing"]}
    for table, names in parts.items():
        part = objectives(tree, decoder.slot_log_probs(x, tree, only=getattr(tree, table)[y]), y)
        for name in names:
            torch.testing.assert_close(part[name], whole[name], atol=1e-10, rtol=1e-10, msg=name)
            if whole[name].requires_grad:
                grads = [torch.autograd.grad(o[name], weights, retain_graph=True) for o in (part, whole)]
                for a, b in zip(*grads, strict=True):
                    torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8, msg=name)


@pytest.mark.parametrize("name", ["pet", "flower"])
def test_only_ground_truth_paths_give_the_same_loss_and_gradient(name):
    graph = load_graph(name)
    labels, n = graph.label_nodes(), len(graph.label_nodes(next(iter(graph.labels))))
    y = torch.arange(len(labels))[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    check_only(graph, labels, n, torch.cat([y[:6], torch.tensor([0, 0, len(labels) - 1])]))
    check_only(graph, labels, n, torch.tensor([len(labels) - 1]))  # coarse labels: the tree's lower levels are bare


@settings(max_examples=60, deadline=None)
@given(random_graphs(), st.data())
def test_only_on_random_graphs(graph, data):
    labels, n = some_labels(data, graph)
    y = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, max_size=4), label="y")
    check_only(graph, labels, n, torch.tensor(y))


def test_expected_reward_is_over_all_complete_paths():
    """The label's own paths give what the sum over every complete path gives: Eq. 4 with the reward of Eq. 3."""
    graph = nested()
    tree, decoder = PrefixTree(graph, graph.label_nodes(), 4), make_decoder(graph)
    y = torch.arange(5)
    path_logp = tree.path_log_probs(decoder.slot_log_probs(make_features(5), tree))
    own = losses.expected_reward(path_logp, own_paths(tree, y))
    torch.testing.assert_close(
        own, losses.expected_reward(path_logp, losses.reward(tree, y).double()), atol=1e-10, rtol=0
    )


def check_sequence(graph: LabelGraph, labels: list[str], n: int | None, feed: bool = False) -> None:
    tree, decoder = PrefixTree(graph, labels, n), make_decoder(graph, feed=feed)
    x, path = make_features(len(tree.paths)), torch.arange(len(tree.paths))
    got = decoder.sequence_log_probs(x, tree, path, forced=torch.ones(len(tree.levels), dtype=torch.bool))
    expected = tree.answer_log_probs(decoder.slot_log_probs(x, tree)).gather(1, path[:, None])[:, 0]
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


def test_teacher_forced_sequence_is_the_trees_path():
    check_sequence(load_graph("pet"), load_graph("pet").label_nodes(), 37)


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.booleans(), st.data())
def test_teacher_forced_sequence_on_random_graphs(graph, feed, data):
    check_sequence(graph, *some_labels(data, graph), feed)


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
    f = decoder.step(torch.zeros(7, dtype=torch.long), decoder.first_state(x))
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
    assert torch.equal(tree.path_label[greedy(tree, slot_logp)], tree.label_log_probs(slot_logp).argmax(1))


# -- sampling and greedy decoding ------


def check_legal(tree: PrefixTree, path: torch.Tensor) -> None:
    for p in path.tolist():
        assert p >= 0 and bool(tree.complete[p])
        nodes = tree.paths[p]
        assert nodes[0] == tree.graph.root and nodes[-1] in tree.labels
        assert all(v in tree.graph.parents[u] for v, u in zip(nodes, nodes[1:], strict=False))


@settings(max_examples=80, deadline=None)
@given(random_graphs(exclusive=False), st.sampled_from([0.0, 1.0, 300.0]), st.booleans(), st.integers(0, 99), st.data())
def test_greedy_is_algorithm_2_and_legal(graph, scale, literal, seed, data):
    tree = PrefixTree(graph, *some_labels(data, graph), literal)
    decoder, x = make_decoder(graph, seed, feed=bool(seed % 2)), make_features(6)
    with torch.no_grad():
        decoder.score.weight *= scale
    path = greedy(tree, decoder.slot_log_probs(x, tree))
    check_legal(tree, path)
    check_legal(tree, decoder.sample(x, tree))
    if scale == 1.0:  # in exact ties, and where p rounds to 1, two answers are equally right
        assert [tree.paths[p] for p in path] == [decoder.decode(x[i : i + 1], tree) for i in range(6)]


def test_greedy_compares_stop_with_go_on():
    graph = nested()
    tree, decoder, x = PrefixTree(graph, graph.label_nodes("fine")), make_decoder(graph), make_features(1)
    with torch.no_grad():
        decoder.score.bias[graph.index["dog"]] += 100.0
        for bias, end in ((-0.01, "beagle"), (0.01, "dog")):
            f = decoder.step(torch.zeros(1, dtype=torch.long), decoder.first_state(x))
            f = decoder.step(torch.tensor([graph.index["dog"]]), f)
            decoder.score.bias[-1] += bias - decoder.score(f)[0, -1]
            path = greedy(tree, decoder.slot_log_probs(x, tree))
            assert tree.paths[path[0]][-1] == end == decoder.decode(x, tree)[-1]


@pytest.mark.parametrize("case", ["nested", "nested, fed", "critters, literal", "not exclusive"])
def test_samples_follow_the_path_distribution(case):
    graph = {"nested": nested, "critters": lambda: load_graph("critters")}.get(case.split(",")[0], build)()
    labels, n, literal = graph.label_nodes(), 4 if "nested" in case else None, "literal" in case
    if case == "not exclusive":
        data = ten()
        data["groups"]["hair"]["exclusive"] = False
        graph = build(data)
    decoder, x = make_decoder(graph, seed=5, feed="fed" in case), make_features(1)
    tree = PrefixTree(graph, labels, n, literal)
    n_drawn = 40_000
    drawn = decoder.sample(x.expand(n_drawn, -1), tree, generator=torch.Generator().manual_seed(0))
    share = drawn.bincount(minlength=len(tree.paths)) / n_drawn
    if "nested" in case:
        p = tree.path_log_probs(decoder.slot_log_probs(x, tree))[0].exp().masked_fill(~tree.complete, 0.0)
    else:  # legal answers of a state share what leads nowhere, or sums to another value than 1, in proportion
        p = played_distribution(tree, decoder.slot_log_probs(x, tree)[0])
    torch.testing.assert_close(p.sum(), torch.tensor(1.0, dtype=torch.float64), atol=1e-9, rtol=0)
    assert ((share - p).abs() < 5 * (p * (1 - p) / n_drawn).sqrt() + 1e-9).all()


def played_distribution(tree: PrefixTree, slot_logp: torch.Tensor) -> torch.Tensor:
    """The distribution of the paths when at each state a legal slot is drawn in proportion to its probability."""
    p = (slot_logp + tree.log_question).exp() * tree.leads
    p = p / torch.zeros(len(tree.state_node)).double().scatter_add(0, tree.slot_state, p)[tree.slot_state]
    paths = tree.answer_log_probs(p.log().clamp(min=-1e9)[None])[0].exp()
    return paths.masked_fill(~tree.complete, 0.0)


def test_samples_are_seeded():
    graph, x = load_graph("pet"), make_features(100)
    tree, decoder = PrefixTree(graph, graph.label_nodes(), 37), make_decoder(graph)
    first, again, other = (decoder.sample(x, tree, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@settings(max_examples=60, deadline=None)
@given(random_graphs(inner_labels=False, one_group=True), st.integers(0, 99))
def test_greedy_is_the_most_probable_path_where_one_question_is_asked(graph, seed):
    """One block a state and answers above one half all the way: no other path can be more probable."""
    tree = PrefixTree(graph, graph.label_nodes())
    z = torch.randn(5, len(tree.slot_node), generator=torch.Generator().manual_seed(seed))
    for state in range(len(tree.state_node)):  # one dominant answer at each state
        slots = (tree.slot_state == state).nonzero()[:, 0]
        z[range(5), slots[torch.randint(len(slots), (5,), generator=torch.Generator().manual_seed(state + seed))]] += 20
    slot_logp = block_log_softmax(z, tree.slot_block)
    assert torch.equal(greedy(tree, slot_logp), tree.path_log_probs(slot_logp).argmax(1))


def test_the_papers_literal_rule_lets_a_lone_answer_win():
    """A block of one has p = 1: by the paper's argmax over all blocks it wins. Ours asks elsewhere."""
    data = ten()
    data["groups"]["voice"] = {"below": "cat", "nodes": ["Meow"]}
    data["groups"]["cat breed"] |= {"columns": ["hair", "color", "voice"]}
    for row in data["groups"]["cat breed"]["nodes"].values():
        row.append("Meow")
    graph, ends = build(data), {}
    for literal in (True, False):
        tree = PrefixTree(graph, graph.label_nodes("fine"), literal=literal)
        z = torch.full((1, len(tree.slot_node)), -2.0)
        for e, prefix in enumerate(tree.prefixes):  # cat, and Long by far
            z[0, e] = 2.0 if prefix[-1] in ("cat", "Long", "Coon") else -2.0
        ends[literal] = tree.paths[int(greedy(tree, block_log_softmax(z, tree.slot_block))[0])]
    assert ends == {True: ("animal", "cat", "Meow", "Coon"), False: ("animal", "cat", "Long", "Coon")}


def test_the_literal_tree_normalises_over_the_whole_group():
    graph = build()
    decoder, x = make_decoder(graph), make_features(1)
    ours, literal = (PrefixTree(graph, graph.label_nodes("fine"), literal=rule) for rule in (False, True))
    lone = ("animal", "cat", "Short", "Brit")  # no other breed below Short; Coon is in Brit's group
    by_rule = [decoder.slot_log_probs(x, tree)[0, tree.prefixes.index(lone)] for tree in (ours, literal)]
    assert by_rule[0] == 0 and by_rule[1] < 0
    assert sorted(literal.paths) == sorted(ours.paths)
    total = literal.path_log_probs(decoder.slot_log_probs(x, literal)).exp().sum()
    assert total < 1  # what it breaks: probability goes to answers that lead nowhere


@pytest.mark.parametrize("name", ["pet", "critters", "flower"])
def test_evaluation_never_ends_at_a_coarse_label(name):
    graph = load_graph(name)
    fine = graph.label_nodes(next(iter(graph.labels)))
    coarse = [v for v in graph.label_nodes() if graph.children(v) and v not in fine]
    for labels in (fine, graph.label_nodes()):
        tree, decoder, x = PrefixTree(graph, labels, len(fine)), make_decoder(graph), make_features(30)
        for path in (greedy(tree, decoder.slot_log_probs(x, tree)), decoder.sample(x, tree)):
            assert coarse and not {tree.paths[p][-1] for p in path.tolist()} & set(coarse)
            check_legal(tree, path)
