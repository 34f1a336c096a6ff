import assert from "node:assert/strict";
import { test } from "node:test";

import { NEWS, Repeats, STALE } from "../../../media/strophe/src/repeats.js";

const mark = (seq = "", at = "", print = seq || at) => ({ seq, at, print });

/** Says for each step, "1=s.7" an item and "-1" a retraction, whether who was there hears of it. */
function told(steps, repeats = new Repeats()) {
  const heard = steps.split(" ").filter((step) => {
    if (step === "gap") {
      repeats.interrupted();
      return false;
    }
    const [id, seq] = step.split("=");
    const moment = step.startsWith("-") ? repeats.retract(step.slice(1)) : repeats.item(id, mark(seq));
    return moment === NEWS;
  });
  return heard.join(" ");
}

test("a run that is sent again is dropped, and what follows is not", () => {
  assert.equal(told("1=s.1 1=s.2 1=s.3 1=s.1 1=s.2 1=s.3 1=s.4"), "1=s.1 1=s.2 1=s.3 1=s.4");
});

test("each id has its own number", () => {
  assert.equal(told("1=s.5 2=s.3 2=s.4 1=s.5 2=s.4"), "1=s.5 2=s.3 2=s.4");
});

test("another source, or none, is news", () => {
  assert.equal(told("1=s.5 1=t.1 1=t.1 1 1 1=t.1 1=t.2"), "1=s.5 1=t.1 1 1 1=t.1 1=t.2");
});

test("what is no number is as good as none", () => {
  const steps = "1=s 1=s 1=.5 1=.5 1=s.x 1=s.x 1=S.5 1=S.5 1=s.-5 1=s.-5 1=s.5.5 1=s.5.5 1= 1=";
  assert.equal(told(steps), steps);
});

test("numbers are compared exactly, however great", () => {
  const steps = "1=s.9 1=s.10 1=s.9007199254740992 1=s.9007199254740993 1=s.9223372036854775807 1=s.9223372036854775808";
  assert.equal(told(steps), steps);
  assert.equal(told(`${steps} ${steps.split(" ").reverse().join(" ")}`), steps);
  assert.equal(told("1=s.10 1=s.0010 1=s.009 1=s.000 1=s.011"), "1=s.10 1=s.011");
  assert.equal(told("1=s.0 1=s.00 1=s.1"), "1=s.0 1=s.1");
});

test("after a run with a retraction was sent again everything is as it was before", () => {
  assert.equal(told("1=s.1 1=s.2 -1 1=s.1 1=s.2 -1"), "1=s.1 1=s.2 -1 1=s.2 -1");
  assert.equal(told("1=s.3 -1 1=s.3"), "1=s.3 -1 1=s.3"); // who came between the two of "-1 1=s.3"
  assert.equal(told("-1 -1"), "-1");
});

test("what was taken back may be published anew, and be taken back again", () => {
  assert.equal(told("1=s.1 -1 1=s.3 -1 1=s.5"), "1=s.1 -1 1=s.3 -1 1=s.5");
  assert.equal(told("1=s.1 -1 1=t.1 -1"), "1=s.1 -1 1=t.1 -1");
  assert.equal(told("1 -1 1 -1"), "1 -1 1 -1");
});

test("what was published anew is not lost by a repeat of the retraction before", () => {
  assert.equal(told("1=s.1 -1 1=s.3 -1 1=s.3"), "1=s.1 -1 1=s.3 -1 1=s.3");
  assert.equal(told("1=s.1 -1 1=s.3 1=s.4 1=s.1 -1 1=s.3 1=s.4"), "1=s.1 -1 1=s.3 1=s.4 -1 1=s.4");
  assert.equal(told("-1 1=s.3 -1 1=s.3 1=s.3"), "-1 1=s.3 -1 1=s.3");
});

test("numbers survive an interruption", () => {
  assert.equal(told("1=s.2 -1 2=s.3 gap 1=s.1 2=s.3 2=s.4"), "1=s.2 -1 2=s.3 2=s.4");
});

test("a retraction is told after an interruption: the item may have come back meanwhile", () => {
  assert.equal(told("1=s.2 -1 gap 1=s.1 -1 -1"), "1=s.2 -1 -1");
});

test("the item as it is now is told to those who came since, and once", () => {
  const repeats = new Repeats();
  repeats.item("1", mark("s.1"));
  const early = repeats.now;
  repeats.item("1", mark("s.2"));
  const late = repeats.now;
  assert.ok(repeats.item("1", mark("s.1")) > late); // to nobody
  const moment = repeats.item("1", mark("s.2"));
  assert.ok(early < moment && moment <= late);
  assert.ok(repeats.item("1", mark("s.2")) > late);
});

test("a retraction is told to those who came since, and once", () => {
  const repeats = new Repeats();
  repeats.item("1", mark("s.1"));
  const early = repeats.now;
  repeats.retract("1");
  const late = repeats.now;
  const moment = repeats.retract("1");
  assert.ok(early < moment && moment <= late);
  assert.ok(repeats.retract("1") > late);
});

test("of 20,000 ids the one that was told of longest ago is forgotten first", () => {
  const repeats = new Repeats();
  for (let id = 0; id < 20_000; id++) {
    repeats.item(String(id), mark("s.1"));
  }
  repeats.item("0", mark("s.2"));
  repeats.item("new", mark("s.1"));
  assert.equal(told("0=s.2 2=s.1 19999=s.1 new=s.1", repeats), "");
  assert.equal(told("1=s.1", repeats), "1=s.1");
});

test("an item without a number is a repeat if it was published at the same time", () => {
  const repeats = new Repeats();
  const one = mark("", "2026-11-26T10:00:00.000001Z");
  assert.equal(repeats.item("1", one), NEWS);
  assert.notEqual(repeats.item("1", one), NEWS);
  assert.equal(repeats.item("1", mark("", "2026-11-26T10:00:00.000002Z")), NEWS);
  repeats.retract("1");
  assert.equal(repeats.item("1", one), NEWS);
});

test("the same text without number and time is news each time it comes, and once when it is found", () => {
  const repeats = new Repeats();
  const typing = mark("", "", "<entry>typing</entry>");
  assert.equal(repeats.item("ada", typing), NEWS);
  assert.equal(repeats.item("ada", typing), NEWS);
  assert.equal(repeats.found("ada", typing, false), STALE);
  assert.equal(repeats.found("ada", mark("", "", "<entry>idle</entry>"), false), NEWS);
});

test("what is found on the server is the truth, even if it is older", () => {
  const repeats = new Repeats();
  repeats.item("1", mark("s.5"));
  assert.equal(repeats.found("1", mark("s.5"), false), STALE);
  assert.equal(repeats.found("1", mark("s.3"), false), NEWS);
  assert.equal(repeats.item("1", mark("s.4")), NEWS);
});

test("what is found again after its retraction is news", () => {
  const repeats = new Repeats();
  repeats.item("1", mark("s.5"));
  repeats.retract("1");
  assert.equal(repeats.found("1", mark("s.5"), false), NEWS);
});

test("what nobody was told of is news if it comes as an event, and once", () => {
  const repeats = new Repeats();
  assert.equal(repeats.found("1", mark("s.5"), true), STALE);
  assert.ok(repeats.knows("1"));
  assert.equal(repeats.item("1", mark("s.4")), STALE);
  assert.equal(repeats.item("1", mark("s.5")), NEWS);
  assert.notEqual(repeats.item("1", mark("s.5")), NEWS);
});

test("it is known which items are there", () => {
  const repeats = new Repeats();
  told("1=s.1 2 3=s.1 -2 4 -1 1=s.3 -5", repeats);
  assert.deepEqual(repeats.alive, ["3", "4", "1"]);
});

test("no id is special", () => {
  assert.equal(told("__proto__=s.1 constructor=s.1 __proto__=s.1 constructor=s.1"), "__proto__=s.1 constructor=s.1");
});
