// Sends with the CloudEvents client, in the mode given (`binary` or `structured`), the events that standard input says:
// `{"url", "key", "mode", "events": [...]}`. Writes the body of each answer, and its headers.
import { CloudEvent, emitterFor, httpTransport, Mode } from 'cloudevents'

let text = ''
for await (const chunk of process.stdin) text += chunk
const { url, key, mode, events } = JSON.parse(text)
const emit = emitterFor(httpTransport(url), { mode: Mode[mode.toUpperCase()] })
const results = []
for (const event of events) {
  results.push(await emit(new CloudEvent(event), { headers: { authorization: `Bearer ${key}` } }))
}
console.log(JSON.stringify(results))
