"""C-RASP by definition, the value of each line worked out position by position; and random programs."""

from functools import cache

from hypothesis import strategies as st

from lengen_fast.theory.crasp import syntax


def values(program, tokens, offset=0):
    """[T] values of each output, by name."""
    lines = {line.name: line.expression for line in program.lines}
    names = [program.vocabulary[token] for token in tokens]

    @cache
    def line(name, i):
        return value(lines[name], i)

    def value(e, i):
        match e:
            case syntax.Name(name):
                return line(name, i)
            case syntax.Query(symbol):
                return names[i] == symbol
            case syntax.Position(period, residues):
                return (i + offset) % period in residues
            case syntax.Truth(truth):
                return truth
            case syntax.Not(operand):
                return not value(operand, i)
            case syntax.And(operands):
                return all(value(x, i) for x in operands)
            case syntax.Or(operands):
                return any(value(x, i) for x in operands)
            case syntax.AtMost(left, right):
                return value(left, i) <= value(right, i)
            case syntax.Counting(operand, distances):
                return sum(value(operand, j) for j in range(i + 1) if distances is None or i - j in distances)
            case syntax.Conditional(condition, then, otherwise):
                return value(then if value(condition, i) else otherwise, i)
            case syntax.Linear(terms, constant):
                return constant + sum(factor * value(term, i) for factor, term in terms)

    return {name: [line(name, i) for i in range(len(tokens))] for name in program.outputs}


@st.composite
def program_texts(draw, lines=6, local=True, periodic=True):
    """Programs over a and b, of every construct, in which each line may use those above it."""
    booleans, counts = ["Q_a", "Q_b", "Q_<bos>", "Q_<sep>", "true"], ["1"]
    if periodic:
        booleans += ["position mod 2 = 0", "position mod 3 in {1, 2}"]
    relations = ["", "", "[j <= i]"] + ["[j <= i, j = i - 1]", "[j <= i, i - j in {0, 2}]", "[j = i - 3]"] * local
    text = ["alphabet a b"]

    def boolean(depth=2):
        kinds = ["leaf"] if not depth else ["and", "or", "compare", "compare", *(["leaf", "not"] * (depth < 2))]
        kind = draw(st.sampled_from(kinds))
        if kind == "leaf":
            return f"({draw(st.sampled_from(booleans))})"
        if kind == "not":
            return f"(not {boolean(depth - 1)})"
        if kind == "compare":
            operator = draw(st.sampled_from(["<=", "<", "=", "!=", ">", ">="]))
            return f"({count(depth - 1)} {operator} {count(depth - 1)})"
        return f"({boolean(depth - 1)} {kind} {boolean(depth - 1)})"

    def count(depth=2):
        kind = draw(st.sampled_from(["count", "count", "linear", "if"] if depth else ["leaf", "count"]))
        if kind == "leaf":
            return draw(st.sampled_from([*counts, str(draw(st.integers(0, 3)))]))
        if kind == "count":
            return f"#{draw(st.sampled_from(relations))}{boolean(max(0, depth - 1))}"
        if kind == "if":
            return f"({boolean(depth - 1)} ? {count(depth - 1)} : {count(depth - 1)})"
        factor, operator = draw(st.integers(-2, 3)), draw(st.sampled_from("+-"))
        return f"({factor} * {count(depth - 1)} {operator} {count(depth - 1)})"

    for number in range(draw(st.integers(1, lines))):
        if draw(st.booleans()):
            text.append(f"B{number} := {boolean()}")
            booleans.append(f"B{number}")
        else:
            text.append(f"C{number} := {count()}")
            counts.append(f"C{number}")
    text += [f"NEXT_a := {boolean()}", f"NEXT_b := {boolean()}", f"NEXT_<end> := {boolean()}"]
    return "\n".join(text)
