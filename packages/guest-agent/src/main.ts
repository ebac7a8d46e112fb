process.stdout.write('nestbox: agent\n');
