import assert from "node:assert/strict";
import { test } from "node:test";

import { comparison, fieldsOf, staying, valueOf } from "../../../media/strophe/src/order.js";

const row = (id, at) => ({ node: "/n", id: String(id), fields: { at } });

/** The values of a field, or the ids, in an order. */
function sorted(values, order = "at") {
  const items = values.map((value, index) => row(index, value));
  return items.sort(comparison(order)).map(({ fields }) => fields.at);
}

function ids(items, order) {
  return items.sort(comparison(order)).map(({ id }) => Number(id));
}

test("a field is read from XML or JSON, and pk is the item's id", () => {
  assert.equal(valueOf({ id: "7", fields: { name: "Ada" } }, "name"), "Ada");
  assert.equal(valueOf({ id: "7", data: { name: "Bo", pk: 8 } }, "name"), "Bo");
  assert.equal(valueOf({ id: "7", data: { name: "Bo", pk: 8 } }, "pk"), "7");
  assert.equal(valueOf({ id: "7" }, "name"), undefined);
});

test("texts and other values without names have no fields", () => {
  for (const data of [undefined, null, "text", 7, true]) {
    assert.equal(fieldsOf({ id: "7", data }), undefined);
  }
});

test("numbers are ordered as numbers, decimals among them, which come as text", () => {
  assert.deepEqual(sorted([10, 9, -1, 9.5]), [-1, 9, 9.5, 10]);
  assert.deepEqual(sorted(["10.50", "9.99", "-3"]), ["-3", "9.99", "10.50"]);
  assert.deepEqual(sorted([true, false]), [false, true]);
});

test("ids are ordered as numbers, also where a number cannot hold them", () => {
  assert.deepEqual(ids([row(10), row(9), row(100)], "pk"), [9, 10, 100]);
  const long = ["9007199254740993", "9007199254740992", "900719925474099"];
  const items = long.map((id) => row(id)).sort(comparison("pk"));
  assert.deepEqual(items.map(({ id }) => id), [...long].reverse());
});

test("texts are ordered as people do it, the same for everybody", () => {
  assert.deepEqual(sorted(["Zoe", "ada", "Émile", "Bo"]), ["ada", "Bo", "Émile", "Zoe"]);
});

test("dates are ordered as moments, to the microsecond", () => {
  const moments = [
    "2026-03-01T12:00:00+02:00",
    "2026-03-01T11:00:00+00:00",
    "2026-03-01T11:00:00.000001+00:00",
    "2026-03-01T11:00:00.000002+00:00",
    "2026-03-01T11:00:00.5+00:00",
  ];
  assert.deepEqual(sorted([...moments].reverse()), moments);
  assert.deepEqual(sorted(["2026-03-01", "2025-12-31"]), ["2025-12-31", "2026-03-01"]);
});

test("what has no value is less than what has one, and other kinds keep apart", () => {
  const kinds = [undefined, null, 7, "8", "2026-03-01", "", "9a", "text"];
  // Array.prototype.sort has its own way with undefined: it is in an item here.
  assert.deepEqual(sorted([...kinds].reverse()), [null, undefined, ...kinds.slice(2)]);
});

test("a minus turns all around, ids where the field is the same included", () => {
  const items = () => [row(1, "b"), row(10, "a"), row(9, "a")];
  assert.deepEqual(ids(items(), "at"), [9, 10, 1]);
  assert.deepEqual(ids(items(), "-at"), [1, 10, 9]);
  assert.deepEqual(ids(items(), "-pk"), [10, 9, 1]);
});

test("any three values of any kind agree about their order", () => {
  const values = [null, 0, "0", "00", 1, "1.0", "1a", "10", "9", "", " ", "-", "2026-01-01", true, "é"];
  const compare = comparison("at");
  const items = values.map((value, index) => row(index, value));
  for (const a of items) {
    for (const b of items) {
      assert.equal(Math.sign(compare(a, b)), -Math.sign(compare(b, a)) + 0);
      for (const c of items) {
        assert.ok(compare(a, b) >= 0 || compare(b, c) >= 0 || compare(a, c) < 0);
      }
    }
  }
});

test("of rows that are in their places all stay", () => {
  assert.deepEqual([...staying([0, 1, 2])].sort(), [0, 1, 2]);
  assert.deepEqual([...staying([-1, 0, -1, 1])].sort(), [1, 3]);
  assert.deepEqual([...staying([-1, -1])], []);
  assert.deepEqual([...staying([])], []);
});

test("a row that goes from one end to the other is the only one to move", () => {
  assert.deepEqual([...staying([1, 2, 3, 0])].sort(), [0, 1, 2]);
  assert.deepEqual([...staying([3, 0, 1, 2])].sort(), [1, 2, 3]);
});

test("as many rows stay as can", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const places = shuffled(7, seed);
    const stay = [...staying(places)].sort((a, b) => a - b).map((index) => places[index]);
    assert.deepEqual(stay, [...stay].sort((a, b) => a - b));
    assert.equal(stay.length, longest(places));
  }
});

/** The numbers below `count` in an order that the seed decides. */
function shuffled(count, seed) {
  const numbers = [...Array(count).keys()];
  for (let index = count - 1; index > 0; index--) {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    const other = seed % (index + 1);
    [numbers[index], numbers[other]] = [numbers[other], numbers[index]];
  }
  return numbers;
}

/** By the slow way. */
function longest(places, above = -1) {
  const [first, ...rest] = places;
  if (first === undefined) {
    return 0;
  }
  const without = longest(rest, above);
  return first > above ? Math.max(without, 1 + longest(rest, first)) : without;
}
