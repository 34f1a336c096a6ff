// Put by build.js in the place of `globalThis`: what Strophe would leave in the page goes here.

const nowhere = {};
export { nowhere as globalThis };
