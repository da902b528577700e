"""The objectives against enumeration and against each other, and PathHead, which puts them to work."""

from __future__ import annotations

import pytest
import torch
from helpers import build, learn, make_decoder, make_features, random_graphs, simple_paths, ten
from hypothesis import given, settings
from hypothesis import strategies as st

from labelaug_core import losses
from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.decoder import greedy
from labelaug_core.graph import EOP, GraphError, LabelGraph
from labelaug_core.graph_file import load_graph
from labelaug_core.label_aug import OBJECTIVES, PathHead, PathSettings
from labelaug_core.prefix_tree import PrefixTree


def scores(tree: PrefixTree, batch: int = 1, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    z = torch.randn(batch, len(tree.slot_node), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (z * scale).requires_grad_()


def slots(tree: PrefixTree, z: torch.Tensor) -> torch.Tensor:
    return block_log_softmax(z, tree.slot_block, tree.block_exclusive)


def mixed_tree(name: str) -> PrefixTree:
    """The joint tree of a graph: its first dataset is evaluated, the labels of the others are reached."""
    graph = build() if name == "ten" else load_graph(name)
    return PrefixTree(graph, graph.label_nodes(), len(graph.label_nodes(next(iter(graph.labels)))))


# -- REINFORCE and what it estimates ------


@pytest.mark.parametrize("baseline", [0.0, 0.37, -5.0])
@pytest.mark.parametrize("name", ["ten", "critters"])
def test_reinforce_is_expected_reward_by_enumeration(name, baseline):
    """Every path that could be sampled, weighted by its probability: the exact gradient."""
    tree = mixed_tree(name)
    for y in (0, 1, len(tree.labels) - 1):  # two breeds, and a species: paths through it are rewarded
        z = scores(tree, seed=y)
        path_logp = tree.path_log_probs(slots(tree, z))
        r = losses.reward(tree, torch.tensor([y])).double()
        assert 0 < r.sum() < r.numel()
        (expected,) = torch.autograd.grad(losses.expected_reward(path_logp, r), z, retain_graph=True)
        total = torch.zeros_like(z)
        for p in tree.complete.nonzero()[:, 0].tolist():
            loss = losses.reinforce(path_logp, torch.tensor([p]), r[:, p], baseline)
            total += path_logp[0, p].detach().exp() * torch.autograd.grad(loss, z, retain_graph=True)[0]
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(total, expected, atol=1e-10, rtol=0)


def test_reinforce_is_expected_reward_for_a_batch_with_a_baseline_each():
    tree, y, b = mixed_tree("ten"), torch.tensor([0, 3]), torch.tensor([0.8, -0.1]).double()
    z = scores(tree, batch=2)
    path_logp = tree.path_log_probs(slots(tree, z))
    r = losses.reward(tree, y).double()
    (expected,) = torch.autograd.grad(losses.expected_reward(path_logp, r), z, retain_graph=True)
    total = torch.zeros_like(z)
    complete = tree.complete.nonzero()[:, 0].tolist()
    for p in complete:
        for q in complete:
            sampled = torch.tensor([p, q])
            loss = losses.reinforce(path_logp, sampled, r.gather(1, sampled[:, None])[:, 0], b)
            chance = path_logp.detach().gather(1, sampled[:, None]).sum().exp()
            total += chance * torch.autograd.grad(loss, z, retain_graph=True)[0]
    torch.testing.assert_close(total, expected, atol=1e-10, rtol=0)


def test_the_baseline_carries_no_gradient():
    tree = mixed_tree("ten")
    z = scores(tree)
    b = torch.tensor(0.5, requires_grad=True)
    losses.reinforce(tree.path_log_probs(slots(tree, z)), torch.tensor([2]), torch.tensor([1.0]), b).backward()
    assert b.grad is None and z.grad.abs().max() > 0


def test_reward_is_the_share_of_labels_on_the_path():
    tree = mixed_tree("ten")  # Brit, Coon, Pug, cat, dog
    y = torch.tensor([0, 3, 4])
    ends = tree.complete.tolist()
    for i, label in enumerate(("Brit", "cat", "dog")):
        expected = [float(label in path and end) for path, end in zip(tree.paths, ends, strict=True)]
        assert losses.reward(tree, y)[i].tolist() == expected
    both = torch.tensor([[1, 0, 0, 1, 0]])  # S = {Brit, cat}
    got = losses.reward(tree, both)[0]
    assert got.tolist() == [len({"Brit", "cat"} & set(p)) / 2 * end for p, end in zip(tree.paths, ends, strict=True)]
    assert set(got.tolist()) == {0.0, 0.5, 1.0}


def test_expected_reward_is_the_probability_times_the_log_likelihoods_gradient():
    tree = mixed_tree("pet")
    y = torch.tensor([tree.labels.index("British Shorthair")])
    z = scores(tree)
    slot_logp = slots(tree, z)
    path_logp, p = tree.path_log_probs(slot_logp), tree.label_log_probs(slot_logp)[0, y].exp()
    (a,) = torch.autograd.grad(losses.expected_reward(path_logp, losses.reward(tree, y)), z, retain_graph=True)
    (b,) = torch.autograd.grad(losses.marginal_likelihood(tree.label_log_probs(slot_logp), y), z)
    torch.testing.assert_close(a, p.detach() * b, atol=1e-12, rtol=1e-8)


# -- likelihoods ------


def test_marginal_likelihood_is_enumeration():
    graph = load_graph("critters")
    labels = graph.label_nodes()
    tree, decoder, x = PrefixTree(graph, labels, 14), make_decoder(graph), make_features(3)
    y = torch.tensor([labels.index(v) for v in ("Albion Shorthair", "Motley Smooth", "cat")])
    total = 0.0
    for b in range(3):
        p = 0.0
        for path in simple_paths(graph, labels[y[b]]):
            questions = [len(graph.blocks(v)) for v in path[:-1]]
            p = p + decoder.steps_of_path(x[b : b + 1], tree, path).sum().exp() / torch.tensor(questions).prod()
        total = total - p.log() / 3
    got = losses.marginal_likelihood(tree.label_log_probs(decoder.slot_log_probs(x, tree)), y)
    torch.testing.assert_close(got, total, atol=1e-8, rtol=0)


def slow_question(tree: PrefixTree, logp: dict, prefix: tuple[str, ...], label: str) -> torch.Tensor:
    """Q(v) = mean over blocks that lead to the label of log sum of p(u | v) exp Q(u); Q(label) = 0, or log p(stop)."""
    graph: LabelGraph = tree.graph
    if prefix[-1] == label:
        return logp.get((*prefix, EOP), torch.zeros((), dtype=torch.float64))
    asked = []
    for answers in graph.blocks(prefix[-1]).values():
        ways = [(*prefix, u) for u in answers if u == label or label in graph.descendants(u)]
        if ways:
            asked.append(torch.stack([logp[w] + slow_question(tree, logp, w, label) for w in ways]).logsumexp(0))
    return torch.stack(asked).mean()


def check_question(tree: PrefixTree) -> None:
    y = torch.arange(len(tree.labels))
    slot_logp = slots(tree, scores(tree, batch=len(y), scale=3.0)).detach()
    for b, label in enumerate(tree.labels):
        logp = dict(zip(tree.prefixes, slot_logp[b], strict=True))
        got = losses.question_likelihood(tree, slot_logp[b : b + 1], y[b : b + 1])
        torch.testing.assert_close(-got, slow_question(tree, logp, (tree.graph.root,), label), atol=1e-10, rtol=0)


def test_question_likelihood_is_its_definition():
    check_question(mixed_tree("pet"))


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.data())
def test_question_likelihood_on_random_graphs(graph, data):
    labels = data.draw(st.lists(st.sampled_from(graph.label_nodes()), min_size=1, unique=True))
    check_question(PrefixTree(graph, labels, data.draw(st.integers(1, len(labels)))))


def test_questions_have_finite_gradients_where_a_label_is_impossible():
    tree = mixed_tree("ten")
    z = scores(tree, batch=5, scale=1e4).detach().float().requires_grad_()
    loss = losses.question_likelihood(tree, slots(tree, z), torch.arange(5))
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()


# -- teacher forcing ------


def test_teacher_forcing_by_hand():
    path_logp = torch.tensor([[-1.0, -2.0, -4.0], [-8.0, -16.0, -32.0], [-64.0, -128.0, -256.0]])
    targets = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])  # the last: none
    assert losses.teacher_forcing(path_logp, targets) == pytest.approx((2.5 + 16 + 0) / 3)
    assert losses.teacher_forcing(path_logp, targets, "sum") == pytest.approx((5 + 16 + 0) / 3)
    values = {float(losses.teacher_forcing(path_logp, targets, "random")) * 3 for _ in range(50)}
    assert {round(v, 4) for v in values} == {1 + 16, 4 + 16}


def used(targets: torch.Tensor, mode: str, n_p: int | None = None, seed: int = 0) -> torch.Tensor:
    """[B, P]: the weight that each path has in the loss, times B; read off the gradient."""
    path_logp = torch.zeros(targets.shape, requires_grad=True)
    generator = torch.Generator().manual_seed(seed)
    losses.teacher_forcing(path_logp, targets, mode, n_p, generator).backward()
    return -path_logp.grad * len(targets)


@pytest.mark.parametrize("mode", ["mean", "sum", "random"])
@pytest.mark.parametrize("n_p", [None, 1, 2, 3, 9])
def test_at_most_n_p_paths_and_of_random_exactly_one(mode, n_p):
    targets = torch.rand(200, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    targets[0] = False
    weight = used(targets, mode, n_p)
    assert (weight[~targets] == 0).all()
    limit = 1 if mode == "random" else n_p or 5
    count = (weight > 0).sum(1)
    assert torch.equal(count, targets.sum(1).clamp(max=limit))
    per_path = 1 / count.clamp(min=1) if mode == "mean" else torch.ones(200)
    torch.testing.assert_close(weight, (weight > 0) * per_path[:, None])


def test_random_paths_are_uniform_and_seeded():
    targets = torch.tensor([True, False, True, True]).expand(6000, -1)
    once = used(targets, "random").sum(0)
    assert once[1] == 0 and (once[[0, 2, 3]] - 2000).abs().max() < 200  # 5 standard deviations
    pairs = used(targets, "sum", n_p=2).sum(0)
    assert pairs.sum() == 12000 and (pairs[[0, 2, 3]] - 4000).abs().max() < 200
    assert torch.equal(used(targets, "random", seed=1), used(targets, "random", seed=1))
    assert not torch.equal(used(targets, "random", seed=1), used(targets, "random", seed=2))


def test_who_is_taught_what():
    """Brit: its hair for certain, its colour not; Coon and Pug and cat: everything for certain."""
    tree = mixed_tree("ten")
    y = torch.arange(5)
    taught = losses.deterministic_paths(tree, y)
    paths = [{tree.paths[p] for p in row.nonzero()[:, 0].tolist()} for row in taught]
    assert paths == [
        {("animal", "cat", "Short", "Brit")},
        {("animal", "cat", "Long", "Coon"), ("animal", "cat", "Tabby", "Coon")},
        {("animal", "dog", "Pug")}, {("animal", "cat")}, {("animal", "dog")},
    ]  # fmt: skip
    assert losses.is_uncertain(tree, y).tolist() == [True, False, False, False, False]


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="minibatch must be one of mean, sum, random, got 'max'"):
        losses.teacher_forcing(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), "max")


# -- PathHead ------


def make_head(graph: LabelGraph, seed: int = 0, d: int = 8, hidden: int = 24, **options) -> PathHead:
    torch.manual_seed(seed)
    fine = graph.label_nodes(next(iter(graph.labels)))
    return PathHead(graph, graph.label_nodes(), len(fine), d, PathSettings(hidden, **options))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_coarse_sample_teaches_its_species_and_no_more(objective):
    graph = build()
    head = make_head(graph, objective=objective)
    cat = torch.full((4,), head.tree.labels.index("cat"))
    x = torch.randn(4, 8)
    loss = head.loss(x, cat, is_coarse=True)
    loss.backward()
    rows = head.decoder.score.weight.grad.abs().sum(1)
    species = [graph.index["cat"], graph.index["dog"]]
    assert (rows[species] > 0).all()
    assert rows.sum() == rows[species].sum()  # hair, colour, breeds and <eop> learn nothing
    step = head.decoder.slot_log_probs(x, head.tree)[:, head.tree.prefixes.index(("animal", "cat"))]
    torch.testing.assert_close(loss, -step.mean())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_coarse_sample_may_instead_be_rewarded_for_any_path_through_it(objective):
    graph = build()
    head = make_head(graph, objective=objective, coarse="reward", beta=2.0)
    cat, x = torch.full((4,), head.tree.labels.index("cat")), torch.randn(4, 8)
    if objective == "algorithm-1":  # sampled: in expectation only, but it must give some gradient to learn from
        sum(head.loss(x, cat, is_coarse=True) for _ in range(20)).backward()
        assert head.decoder.score.weight.grad[graph.index["cat"]].abs().sum() > 0
        return
    p_cat = head.decoder.slot_log_probs(x, head.tree)[:, head.tree.prefixes.index(("animal", "cat"))].exp()
    expected = -2.0 * p_cat.mean() if objective == "expected-reward" else -p_cat.log().mean()
    torch.testing.assert_close(head.loss(x, cat, is_coarse=True), expected)  # all paths through cat: just p(cat)


def accuracy(head: PathHead, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float, float]:
    """By exact label probabilities, by greedy decoding; and -log p(label)."""
    with torch.no_grad():
        found = head.predictions(x)
    logp, decoded = found["log_probs"], found["greedy"]
    assert [head.fine_tree.paths[p][-1] for p in found["path"]] == [head.fine_tree.labels[i] for i in decoded]
    right = [float((guess == y).float().mean()) for guess in (logp.argmax(1), decoded)]
    return *right, float(losses.marginal_likelihood(logp, y))


@pytest.mark.parametrize(
    "options",
    [{"objective": o} for o in OBJECTIVES]
    + [{"r_tf": 0.5}, {"r_tf": 0.7, "coin": "step", "minibatch": "random"}, {"minibatch": "sum", "n_p": 1}],
    ids=str,
)
def test_one_batch_is_learned_by_heart(options):
    head = make_head(load_graph("critters"), **options)
    y = torch.arange(14).repeat(2)
    x = torch.randn(28, 8)
    before = accuracy(head, x, y)[2]
    learn(head, x, y, steps=150, lr=2e-2)
    exact, decoded, after = accuracy(head, x, y)
    assert exact > 0.99
    assert (
        decoded > 0.99 or head.settings.objective == "marginal"
    )  # the marginal is content if one question finds the label
    assert after < 0.5 * before


def check_by_enumeration(monkeypatch, graph: LabelGraph, y: torch.Tensor, is_coarse: bool = False, **options) -> None:
    """Sample every path in turn, for the one uncertain sample, the first: the mean of Algorithm 1's gradients is the
    exact objective's gradient."""
    head = make_head(graph, **options).double().eval()
    exact = make_head(graph, objective="expected-reward", **options).double()
    exact.load_state_dict(head.state_dict())
    head.b.fill_(0.4)  # any baseline
    x, tree = make_features(len(y), d=8), head.tree if is_coarse else head.fine_tree
    expected = torch.autograd.grad(exact.loss(x, y, is_coarse), list(exact.parameters()))
    chance = tree.path_log_probs(head.decoder.slot_log_probs(x[:1], tree))[0].exp().detach()
    total = [torch.zeros_like(g) for g in expected]
    for p in tree.complete.nonzero()[:, 0].tolist():
        monkeypatch.setattr(head.decoder, "sample", lambda x, tree, tokens, p=p: torch.tensor([p]))
        grads = torch.autograd.grad(head.loss(x, y, is_coarse), list(head.parameters()))
        total = [t + chance[p] * g for t, g in zip(total, grads, strict=True)]
    for a, b in zip(total, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-6)


def test_algorithm_1_is_the_expected_reward_objective_by_enumeration(monkeypatch):
    check_by_enumeration(monkeypatch, build(), torch.tensor([0, 1, 2]), alpha=0.7, beta=1.3)  # Brit is uncertain


def test_an_uncertain_inner_label_is_rewarded_the_same_by_both_objectives(monkeypatch):
    """Brit, in two colours and with varieties below it, is a coarse label here: to it, or through it?"""
    data = ten()
    data["groups"]["variety"] = {"below": "Brit", "nodes": ["Old Brit", "New Brit"]}
    data["labels"] = {"fine": {"nodes": ["Old Brit", "New Brit", "Coon", "Pug"]}, "coarse": {"nodes": ["Brit"]}}
    graph = build(data)
    check_by_enumeration(monkeypatch, graph, torch.tensor([graph.label_nodes().index("Brit")]), is_coarse=True)


@pytest.mark.parametrize("options", [{}, {"r_tf": 0.0}, {"coarse": "reward"}, {"literal": True}], ids=str)
@pytest.mark.parametrize("is_coarse", [False, True])
def test_algorithm_1_in_one_pass_is_its_two_parts(options, is_coarse):
    """Part 1 and part 2, each run through the decoder by itself on the same sampled paths: same loss, same gradient."""
    head = make_head(load_graph("pet"), alpha=0.7, beta=1.3, **options).double().eval()
    tree = head.tree if is_coarse else head.fine_tree
    through = is_coarse and head.settings.coarse == "reward"
    x, y = make_features(20, d=8), torch.arange(20)  # some of these breeds are uncertain
    if is_coarse:
        y = y % 2 + head.fine_tree.on_way.shape[0]  # cat, dog
    torch.manual_seed(3)
    got = head.loss(x, y, is_coarse)

    torch.manual_seed(3)
    part_1 = torch.zeros(())
    forced = (torch.rand(1) <= head.settings.r_tf).expand(len(tree.levels))
    if not through:
        targets = losses.deterministic_paths(tree, y)
        rows, path = targets.nonzero(as_tuple=True)
        logp = head.decoder.sequence_log_probs(x[rows], tree, path, forced)
        part_1 = losses.teacher_forcing(torch.zeros(targets.shape).double().index_put((rows, path), logp), targets)
    some, part_2 = losses.is_uncertain(tree, y) | through, torch.zeros(())
    assert bool(some.any()) == (through or not is_coarse)
    if some.any():
        slot_logp = head.decoder.slot_log_probs(x[some], tree)
        sampled = head.decoder.sample(x[some], tree)
        r = losses.reward(tree, y[some]).gather(1, sampled[:, None])[:, 0].double()
        part_2 = some.double().mean() * losses.reinforce(tree.answer_log_probs(slot_logp), sampled, r, head.b)
    expected = 0.7 * part_1 + 1.3 * part_2
    torch.testing.assert_close(got, expected.double(), atol=1e-8, rtol=1e-6)
    weights = list(head.parameters())
    grads = [torch.autograd.grad(loss, weights, allow_unused=True) for loss in (got, expected)]
    for a, b in zip(*grads, strict=True):
        a, b = (torch.zeros(1) if g is None else g for g in (a, b))
        torch.testing.assert_close(a.double(), b.double(), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("literal", [False, True])
def test_predictions_are_log_probs_and_greedy_of_one_pass(literal):
    head = make_head(load_graph("pet"), literal=literal)
    x = torch.randn(6, 8)
    found = head.predictions(x)
    torch.testing.assert_close(found["log_probs"], head.log_probs(x))
    slot_logp = head.decoder.slot_log_probs(x, head.fine_tree)
    path = greedy(head.fine_tree, slot_logp)
    assert torch.equal(found["path"], path) and torch.equal(found["greedy"], head.fine_tree.path_label[path])
    torch.testing.assert_close(found["path_log_probs"], head.fine_tree.path_log_probs(slot_logp))


def test_the_baseline_is_a_running_mean_of_rewards_in_training_only():
    head = make_head(build()).eval()
    x, brit = torch.randn(64, 8), torch.zeros(64, dtype=torch.long)
    head.loss(x, brit)
    assert head.b == 0
    head.train()
    for _ in range(80):
        head.loss(x, brit)
    p = head.fine_tree.label_log_probs(head.decoder.slot_log_probs(x, head.fine_tree))[:, 0].exp().mean()
    assert (head.b - p).abs() < 0.1  # rewards are 1 for Brit's paths, 0 for others


def test_alpha_weighs_the_deterministic_part_also_where_nothing_is_uncertain():
    x, y = torch.randn(4, 8), torch.tensor([1, 2, 1, 2])  # Coon, Pug
    one, two = (make_head(build(), alpha=alpha).loss(x, y) for alpha in (1.0, 2.0))
    torch.testing.assert_close(two, 2 * one)
    assert one > 0


def test_fine_samples_are_scored_as_they_are_evaluated():
    """Only fine labels may end a path: the marginal objective is the cross-entropy of log_probs."""
    head = make_head(load_graph("critters"), objective="marginal")
    x, y = torch.randn(14, 8), torch.arange(14)
    torch.testing.assert_close(head.loss(x, y), torch.nn.functional.nll_loss(head.log_probs(x), y))


def test_log_probs_are_a_distribution_over_the_fine_labels():
    head = make_head(load_graph("critters"))
    logp = head.log_probs(torch.randn(5, 8))
    assert logp.shape == (5, 14)
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(5))


def test_unknown_settings_are_refused_all_at_once():
    with pytest.raises(ValueError, match="objective must be one of .*, got 'alg1'; minibatch .*'max'; coin .*; coarse"):
        PathSettings(objective="alg1", minibatch="max", coin="toss", coarse="go")
    with pytest.raises(ValueError, match="hidden must be .* got 0; n_p must be .* got 0; r_tf must be .* got 5.0"):
        PathSettings(hidden=0, n_p=0, r_tf=5.0)


def test_groups_that_do_not_compete_are_refused():
    data = ten()
    data["groups"]["hair"]["exclusive"] = data["groups"]["color"]["exclusive"] = False
    with pytest.raises(GraphError, match="needs groups that compete.*'color', 'hair'"):
        make_head(build(data))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_label_above_another_label_is_learned(objective):
    """dog (breed unknown) beside beagle: whether to stop is a decision that the features make."""
    data = {
        "root": "animal",
        "groups": {"species": {"below": "animal", "nodes": ["cat", "dog"]}, "breed": {"nodes": {"beagle": "dog"}}},
        "labels": {"fine": {"nodes": ["dog", "beagle", "cat"]}},
    }
    head = make_head(build(data), objective=objective)
    y = torch.arange(3).repeat(20)
    x = torch.nn.functional.one_hot(y, 8).float() + 0.1 * torch.randn(60, 8)
    learn(head, x, y, steps=100, lr=2e-2)
    exact, decoded, nll = accuracy(head, x, y)
    assert exact == decoded == 1.0 and nll < 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("coarse", ["path", "reward"])
def test_a_coarse_sample_never_trains_the_stop(objective, coarse):
    """cat is coarse, dog is evaluated and lies above beagle: no coarse image says whether a dog is a beagle."""
    data = {
        "root": "animal",
        "groups": {
            "species": {"below": "animal", "nodes": ["cat", "dog"]},
            "breed": {"nodes": {"beagle": "dog", "Manx": "cat"}},
        },
        "labels": {"fine": {"nodes": ["dog", "beagle", "Manx"]}, "coarse": {"nodes": ["cat"]}},
    }
    head = make_head(build(data), objective=objective, coarse=coarse)
    loss = sum(head.loss(torch.randn(32, 8), torch.full((32,), 3), is_coarse=True) for _ in range(5))
    loss.backward()
    gradient = head.decoder.score.weight.grad
    if objective == "algorithm-1" and coarse == "reward":
        return  # its sampled paths may stop at dog: in expectation alone does the stop get no gradient
    assert gradient[-1].abs().max() < 1e-7 and gradient[head.tree.graph.index["cat"]].abs().max() > 1e-4
