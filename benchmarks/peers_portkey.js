// Portkey's gateway in several processes that share a port: node peers_portkey.js <its start-server.js> <port> <processes>
const cluster = require('node:cluster');
const [server, port, processes] = process.argv.slice(2);

if (cluster.isPrimary) {
  for (let n = 0; n < Number(processes); n++) cluster.fork();
  // Stopped as one.
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.kill();
    process.exit(0);
  });
} else {
  process.argv = [process.argv[0], server, `--port=${port}`, '--headless'];
  import(server);
}
