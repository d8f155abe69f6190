// Does with OpenMeter's own client what standard input says, `{"url", "key", "calls": [["meters", "create", [...]], ...]}`, and writes what came of
// each call: `{"ok": ...}` or `{"error": {...}}`. Texts `date:...` among the arguments are given as dates, as its users do.
import { isHTTPError, OpenMeter } from '@openmeter/sdk'

const read = async () => {
  let text = ''
  for await (const chunk of process.stdin) text += chunk
  return JSON.parse(text, (_, value) =>
    typeof value === 'string' && value.startsWith('date:') ? new Date(value.slice(5)) : value,
  )
}

const { url, key, calls } = await read()
const client = new OpenMeter({ baseUrl: url, apiKey: key })
const results = []
for (const [part, name, args] of calls) {
  try {
    results.push({ ok: (await client[part][name](...args)) ?? null })
  } catch (error) {
    if (!isHTTPError(error)) throw error
    const { message, type, title, status } = error
    results.push({ error: { message, type, title, status, detail: error.getField('detail') } })
  }
}
console.log(JSON.stringify(results))
