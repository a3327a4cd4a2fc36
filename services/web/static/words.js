// What scripts say, in the page's language. The server says it from the same catalogue (services/web/languages.py).

const answer = await fetch(document.getElementById("words").href);
if (!answer.ok) throw new Error(`the words of this page cannot be fetched: ${answer.status}`);
const words = await answer.json();

export const language = document.documentElement.lang;

/** The words of a key, with {names} replaced by values. */
export function say(key, values = {}) {
  if (!(key in words)) throw new Error(`no words for ${key}`);
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
