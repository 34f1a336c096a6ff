import assert from "node:assert/strict";
import { test } from "node:test";

import { NEWS, Repeats } from "../../../media/strophe/src/repeats.js";

/** Says for each step, "1=s.7" an item and "-1" a retraction, whether who was there hears of it. */
function told(steps, repeats = new Repeats()) {
  const heard = steps.split(" ").filter((step) => {
    if (step === "gap") {
      repeats.interrupted();
      return false;
    }
    const [id, seq] = step.split("=");
    const moment = step.startsWith("-") ? repeats.retract(step.slice(1)) : repeats.item(id, seq);
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
  repeats.item("1", "s.1");
  const early = repeats.now;
  repeats.item("1", "s.2");
  const late = repeats.now;
  assert.ok(repeats.item("1", "s.1") > late); // to nobody
  const moment = repeats.item("1", "s.2");
  assert.ok(early < moment && moment <= late);
  assert.ok(repeats.item("1", "s.2") > late);
});

test("a retraction is told to those who came since, and once", () => {
  const repeats = new Repeats();
  repeats.item("1", "s.1");
  const early = repeats.now;
  repeats.retract("1");
  const late = repeats.now;
  const moment = repeats.retract("1");
  assert.ok(early < moment && moment <= late);
  assert.ok(repeats.retract("1") > late);
});

test("of 10,000 ids the one that was told of longest ago is forgotten first", () => {
  const repeats = new Repeats();
  for (let id = 0; id < 10_000; id++) {
    repeats.item(String(id), "s.1");
  }
  repeats.item("0", "s.2");
  repeats.item("new", "s.1");
  assert.equal(told("0=s.2 2=s.1 9999=s.1 new=s.1", repeats), "");
  assert.equal(told("1=s.1", repeats), "1=s.1");
});

test("items without numbers take no memory", () => {
  const repeats = new Repeats();
  repeats.item("1", "s.1");
  for (let id = 0; id < 10_001; id++) {
    repeats.item(`log-${id}`);
  }
  assert.equal(told("1=s.1", repeats), "");
});

test("no id is special", () => {
  assert.equal(told("__proto__=s.1 constructor=s.1 __proto__=s.1 constructor=s.1"), "__proto__=s.1 constructor=s.1");
});
